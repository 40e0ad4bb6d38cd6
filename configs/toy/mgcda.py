# MGCDA on the toy streets.
_base_ = './baseline.py'
default_hooks = dict(
    mdat=dict(
        type='MDATHook',
        feature_classifier=dict(type='DomainClassifier', in_channels=64),
        output_classifier=dict(type='DomainClassifier', in_channels=1, channels=(8, 16, 32, 64)),
        optimizer=dict(type='Adam', lr=1e-3)))  # the rate of the network
model = dict(
    train_only=dict(
        projector=dict(type='Projector', in_channels=16, channels=(64, 128)),
        contrast=dict(type='CACLLoss', loss_weight=0.1)))
