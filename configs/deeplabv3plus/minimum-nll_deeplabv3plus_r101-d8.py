# Minimum NLL over several layers, each with a normalising flow (Blum et al., IJCV 2021).
_base_ = './sml_deeplabv3plus_r101-d8.py'
model = dict(
    score=dict(
        _delete_=True,
        type='FlowNLL',
        layers=['backbone.layer2', 'backbone.layer3', 'backbone.layer4', 'decode_head.conv_seg:input'],
        combine='minimum',
        fitted='work_dirs/deeplabv3plus/nll.pth'))
