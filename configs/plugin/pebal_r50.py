# MGCDA plugged into PEBAL over ResNet-50.
_base_ = ['../_base_/plugged/pebal.py', '../_base_/backbones/resnet50.py']
model = dict(backbone=_base_.backbone, decode_head=dict(in_channels=_base_.pyramid.in_channels))
default_hooks = dict(mdat=dict(feature_classifier=dict(in_channels=_base_.pyramid.in_channels[-1])))
