# MGCDA plugged into Outlier Head over VGG16: the head reads strides 4, 8 and 16.
_base_ = ['../_base_/plugged/outlier_head.py', '../_base_/backbones/vgg16.py']
model = dict(
    backbone=dict(_base_.backbone, num_stages=5), decode_head=dict(in_channels=(256, 512, 512), in_index=(2, 3, 4)))
default_hooks = dict(mdat=dict(feature_classifier=dict(in_channels=512)))
