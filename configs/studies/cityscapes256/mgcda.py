# Table 3 (f), MDAT + CACL: MGCDA on the 256x256 Cityscapes.
_base_ = './mdat.py'
model = dict(
    train_only=dict(
        projector=dict(type='Projector', in_channels=24, channels=(64, 128)),
        contrast=dict(type='CACLLoss', loss_weight=0.1)))
