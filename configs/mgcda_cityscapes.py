# MGCDA with the paper's hyper-parameters (section 4.2): MDAT (section 3.3) and CACL (section 3.4). What the paper leaves
# open, and the option that changes each choice: docs/method.md.
_base_ = './_base_/dissimilarity_cityscapes.py'
default_hooks = dict(
    mdat=dict(
        type='MDATHook',
        feature_classifier=dict(type='DomainClassifier', in_channels=512),
        output_classifier=dict(type='DomainClassifier', in_channels=1, channels=(32, 64, 128, 256)),
        optimizer=dict(type='Adam', lr=1e-4)))
model = dict(
    train_only=dict(
        projector=dict(type='Projector', in_channels=64, channels=(64, 128)),
        contrast=dict(type='CACLLoss', loss_weight=0.1)))
