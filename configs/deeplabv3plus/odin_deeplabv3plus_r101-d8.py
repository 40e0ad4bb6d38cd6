# ODIN (Liang et al., ICLR 2018) over the DeepLabV3+ of the model zoo.
_base_ = [
    './deeplabv3plus_r101-d8_cityscapes-512x1024.py', '../_base_/datasets/anomaly_benchmarks.py',
    '../_base_/default_runtime.py'
]
model = dict(type='AnomalySegmentor', score=dict(type='ODIN', temperature=1000.0, epsilon=0.0014))
test_cfg = dict(type='TestLoop')
