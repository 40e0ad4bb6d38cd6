# Table 3 (e), MDAT + CPCL: contrast across domains, random samples.
_base_ = './mgcda.py'
model = dict(train_only=dict(contrast=dict(strategy='random')))
