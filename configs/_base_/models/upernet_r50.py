# The UPerNet of MMSegmentation's model zoo (78.19 mIoU on Cityscapes val).
_base_ = ['./upernet.py', '../backbones/resnet50.py']
segmenter_checkpoint = (
    'https://mmassets.onedl.ai/mmsegmentation/v0.5/upernet/upernet_r50_512x1024_80k_cityscapes/'
    'upernet_r50_512x1024_80k_cityscapes_20200607_052207-848beca8.pth')
model = dict(
    backbone=dict(_base_.backbone, norm_cfg=_base_.norm_cfg),
    decode_head=dict(in_channels=_base_.pyramid.in_channels),
    auxiliary_head=dict(in_channels=_base_.pyramid.in_channels[2]))
