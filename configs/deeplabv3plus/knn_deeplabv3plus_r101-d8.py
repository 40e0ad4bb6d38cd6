# Nearest-neighbour density of the decoder's features (Blum et al., IJCV 2021).
_base_ = './sml_deeplabv3plus_r101-d8.py'
model = dict(
    score=dict(
        _delete_=True,
        type='KNN',
        layer='decode_head.conv_seg:input',
        fitted='work_dirs/deeplabv3plus/knn.pth'))
