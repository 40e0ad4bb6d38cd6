_base_ = ['../mgcda_cityscapes.py', '../_base_/backbones/convnext_tiny.py']
model = dict(backbone=dict(_delete_=True, **_base_.backbone), decode_head=dict(**_base_.pyramid))
