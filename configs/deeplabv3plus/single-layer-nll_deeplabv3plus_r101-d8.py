# Single-layer NLL: a normalising flow of the features of one layer (Blum et al., IJCV 2021).
_base_ = './sml_deeplabv3plus_r101-d8.py'
model = dict(
    score=dict(
        _delete_=True,
        type='FlowNLL',
        layers=['decode_head.conv_seg:input'],
        fitted='work_dirs/deeplabv3plus/single-layer-nll.pth'))
