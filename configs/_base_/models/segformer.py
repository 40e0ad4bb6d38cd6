# SegFormer's head (Xie et al., NeurIPS 2021) over any file of ../backbones, which a config names beside this one:
#   model = dict(
#       backbone=_base_.backbone, neck=_base_.get('neck'), decode_head=dict(in_channels=_base_.pyramid.in_channels))
_base_ = './segmenter.py'
model = dict(decode_head=dict(type='SegformerHead', in_index=(0, 1, 2, 3), channels=256))
