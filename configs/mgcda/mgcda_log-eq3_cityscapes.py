# Eq. (3) with the logarithm, not divided by ln(1 + |S_n|).
_base_ = '../mgcda_cityscapes.py'
model = dict(train_only=dict(contrast=dict(normalise=False)))
