# DINOv2 stays as it is; to tune it, set frozen_stages=-1 and a learning rate of some 1e-5 (paramwise_cfg).
backbone = dict(
    type='DINOv2', arch='base', out_indices=(2, 5, 8, 11), frozen_stages=12,
    init_cfg=dict(
        type='Pretrained', prefix='backbone.',
        checkpoint='https://mmassets.onedl.ai/mmpretrain/v1.0/dinov2/'
        'vit-base-p14_dinov2-pre_3rdparty_20230426-ba246503.pth'))
neck = dict(
    type='Feature2Pyramid', embed_dim=768, rescales=(4, 2, 1, 0.5), norm_cfg=dict(type='mmpretrain.LN2d'))
pyramid = dict(in_channels=(768, 768, 768, 768), feature_strides=(4, 8, 16, 32))
