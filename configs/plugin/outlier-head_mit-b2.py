# MGCDA plugged into Outlier Head over MiT-B2.
_base_ = ['../_base_/plugged/outlier_head.py', '../_base_/backbones/mit_b2.py']
model = dict(backbone=_base_.backbone, decode_head=dict(in_channels=_base_.pyramid.in_channels))
default_hooks = dict(mdat=dict(feature_classifier=dict(in_channels=_base_.pyramid.in_channels[-1])))
