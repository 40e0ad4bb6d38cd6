_base_ = ['../mgcda_cityscapes.py', '../_base_/backbones/dinov2_vit-b.py']
model = dict(
    backbone=dict(_delete_=True, **_base_.backbone), neck=_base_.neck, decode_head=dict(**_base_.pyramid))
