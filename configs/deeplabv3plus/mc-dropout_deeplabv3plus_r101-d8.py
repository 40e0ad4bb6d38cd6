# Bayesian DeepLab (Mukhoti & Gal 2018) over the DeepLabV3+ of the model zoo, whose head was trained with a dropout of 0.1
# (departure: the paper's network has dropout of 0.5 in its middle layers).
_base_ = [
    './deeplabv3plus_r101-d8_cityscapes-512x1024.py', '../_base_/datasets/anomaly_benchmarks.py',
    '../_base_/default_runtime.py'
]
model = dict(
    type='MCDropoutAnomalySegmentor',
    num_passes=8,
    scores=['predictive_entropy', 'expected_entropy', 'mutual_information'])
test_cfg = dict(type='TestLoop')
