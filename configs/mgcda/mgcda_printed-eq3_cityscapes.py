# Eq. (3) as printed, without a logarithm.
_base_ = '../mgcda_cityscapes.py'
model = dict(train_only=dict(contrast=dict(log=False)))
