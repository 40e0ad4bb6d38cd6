# The SegFormer of MMSegmentation's model zoo (81.08 mIoU on Cityscapes val).
_base_ = ['./segformer.py', '../backbones/mit_b2.py']
segmenter_checkpoint = (
    'https://mmassets.onedl.ai/mmsegmentation/v0.5/segformer/segformer_mit-b2_8x1_1024x1024_160k_cityscapes/'
    'segformer_mit-b2_8x1_1024x1024_160k_cityscapes_20211207_134205-6096669a.pth')
model = dict(backbone=_base_.backbone, decode_head=dict(in_channels=_base_.pyramid.in_channels))
