# Table 3 (d), MDAT + PCL: contrast within a domain, random samples.
_base_ = './mgcda.py'
model = dict(train_only=dict(contrast=dict(strategy='random', cross_domain=False)))
