# MSP, entropy, margin, MaxLogit, energy and ASH of the DeepLabV3+ of the model zoo, in one pass.
_base_ = [
    './deeplabv3plus_r101-d8_cityscapes-512x1024.py', '../_base_/datasets/anomaly_benchmarks.py',
    '../_base_/default_runtime.py'
]
model = dict(
    type='AnomalySegmentor',
    scores=['msp', 'entropy', 'margin', 'max_logit', 'energy', dict(type='ASH', name='ASH')])
test_cfg = dict(type='TestLoop')
