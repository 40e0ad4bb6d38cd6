# MGCDA plugged into Outlier Head over DINOv2 ViT-B. The backbone is frozen, so MDAT reads what the classifier reads.
_base_ = ['../_base_/plugged/outlier_head.py', '../_base_/backbones/dinov2_vit-b.py']
model = dict(
    backbone=_base_.backbone,
    neck=_base_.neck,
    decode_head=dict(in_channels=_base_.pyramid.in_channels),
    taps=dict(features='decode_head.conv_seg:input'))
default_hooks = dict(mdat=dict(feature_classifier=dict(in_channels=_base_.model.decode_head.channels)))
