# Class-conditional Gaussians of the decoder's features (Lee et al., NeurIPS 2018).
_base_ = './sml_deeplabv3plus_r101-d8.py'
model = dict(
    score=dict(
        _delete_=True,
        type='Mahalanobis',
        layer='decode_head.conv_seg:input',
        fitted='work_dirs/deeplabv3plus/mahalanobis.pth'))
