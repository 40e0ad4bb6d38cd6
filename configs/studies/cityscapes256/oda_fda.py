# Table 3 (b), ODA + FDA: a second domain classifier on the features.
_base_ = './oda.py'
default_hooks = dict(mdat=dict(feature_classifier=dict(type='DomainClassifier', in_channels=96)))
