# Minimum NLL over several layers, each with a normalising flow (Blum et al., IJCV 2021).
_base_ = [
    './deeplabv3plus_r101-d8_cityscapes-512x1024.py', '../_base_/datasets/anomaly_benchmarks.py',
    '../_base_/datasets/fit_cityscapes.py', '../_base_/default_runtime.py'
]
model = dict(
    type='AnomalySegmentor',
    score=dict(
        type='FlowNLL',
        layers=['backbone.layer2', 'backbone.layer3', 'backbone.layer4', 'decode_head.conv_seg:input'],
        combine='minimum',
        fitted='work_dirs/deeplabv3plus/nll.pth'))
test_cfg = dict(type='TestLoop')
