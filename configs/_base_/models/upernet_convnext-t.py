# No weights of it for Cityscapes are public.
_base_ = ['./upernet.py', '../backbones/convnext_tiny.py']
model = dict(
    backbone=_base_.backbone, decode_head=dict(in_channels=_base_.pyramid.in_channels),
    auxiliary_head=dict(in_channels=_base_.pyramid.in_channels[2]))
