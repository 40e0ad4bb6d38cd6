# Standardized max logits (Jung et al., ICCV 2021) over the DeepLabV3+ of the model zoo.
_base_ = [
    './deeplabv3plus_r101-d8_cityscapes-512x1024.py', '../_base_/datasets/anomaly_benchmarks.py',
    '../_base_/datasets/fit_cityscapes.py', '../_base_/default_runtime.py'
]
model = dict(type='AnomalySegmentor', score=dict(type='SML', fitted='work_dirs/deeplabv3plus/sml.pth'))
test_cfg = dict(type='TestLoop')
