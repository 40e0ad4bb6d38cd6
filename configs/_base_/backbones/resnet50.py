backbone = dict(
    type='ResNetV1c', depth=50, num_stages=4, out_indices=(0, 1, 2, 3), norm_cfg=dict(type='BN'), norm_eval=False,
    style='pytorch', init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnet50_v1c'))
pyramid = dict(in_channels=(256, 512, 1024, 2048), feature_strides=(4, 8, 16, 32))
