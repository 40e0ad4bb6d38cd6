# Table 3 (f), MDAT + CACL: MGCDA on the 256x256 Cityscapes. CACL at a tenth of the paper's weight: in its logarithmic
# form and with the paper's, its gradient would be six times that of the cross-entropy here (docs/study.md).
_base_ = './mdat.py'
model = dict(
    train_only=dict(
        projector=dict(type='Projector', in_channels=24, channels=(64, 128)),
        contrast=dict(type='CACLLoss', loss_weight=0.01)))
