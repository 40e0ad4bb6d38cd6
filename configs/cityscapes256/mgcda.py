# MGCDA on the 256x256 Cityscapes.
_base_ = './baseline.py'
default_hooks = dict(
    mdat=dict(
        type='MDATHook',
        feature_classifier=dict(type='DomainClassifier', in_channels=96),
        output_classifier=dict(type='DomainClassifier', in_channels=1, channels=(8, 16, 32, 64))))
model = dict(
    train_only=dict(
        projector=dict(type='Projector', in_channels=24, channels=(64, 128)),
        contrast=dict(type='CACLLoss', loss_weight=0.1)))
