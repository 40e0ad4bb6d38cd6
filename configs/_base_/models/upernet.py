# UPerNet (Xiao et al., ECCV 2018) over any file of ../backbones, which a config names beside this one:
#   model = dict(
#       backbone=_base_.backbone, neck=_base_.get('neck'), decode_head=dict(in_channels=_base_.pyramid.in_channels),
#       auxiliary_head=dict(in_channels=_base_.pyramid.in_channels[2]))
_base_ = './segmenter.py'
model = dict(
    decode_head=dict(type='UPerHead', in_index=(0, 1, 2, 3), pool_scales=(1, 2, 3, 6), channels=512),
    auxiliary_head=dict(
        type='FCNHead',
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
        loss_decode=dict(type='PixelCrossEntropyLoss', loss_weight=0.4)))
