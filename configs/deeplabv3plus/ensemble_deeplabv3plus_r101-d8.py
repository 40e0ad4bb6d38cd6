# Deep ensemble (Lakshminarayanan et al., NeurIPS 2017): the tested DeepLabV3+, and others trained alike with other
# seeds.
_base_ = [
    './deeplabv3plus_r101-d8_cityscapes-512x1024.py', '../_base_/datasets/anomaly_benchmarks.py',
    '../_base_/default_runtime.py'
]
segmenter = 'configs/deeplabv3plus/deeplabv3plus_r101-d8_cityscapes-512x1024.py'
model = dict(
    type='EnsembleAnomalySegmentor',
    members=[
        dict(config=segmenter, checkpoint='checkpoints/deeplabv3plus_seed1.pth'),
        dict(config=segmenter, checkpoint='checkpoints/deeplabv3plus_seed2.pth')
    ],
    scores=['predictive_entropy', 'expected_entropy', 'mutual_information'])
test_cfg = dict(type='TestLoop')
