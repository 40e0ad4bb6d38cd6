# CACL without MDAT: not a row of the paper, for reading the two apart.
_base_ = './baseline.py'
model = dict(
    train_only=dict(
        projector=dict(type='Projector', in_channels=24, channels=(64, 128)),
        contrast=dict(type='CACLLoss', loss_weight=0.1)))
