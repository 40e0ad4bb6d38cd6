backbone = dict(
    type='MixVisionTransformer', embed_dims=64, num_stages=4, num_layers=(3, 4, 6, 3), num_heads=(1, 2, 5, 8),
    patch_sizes=(7, 3, 3, 3), sr_ratios=(8, 4, 2, 1), out_indices=(0, 1, 2, 3), mlp_ratio=4, qkv_bias=True,
    drop_path_rate=0.1,
    init_cfg=dict(
        type='Pretrained',
        checkpoint='https://mmassets.onedl.ai/mmsegmentation/v0.5/pretrain/segformer/mit_b2_20220624-66e8bf70.pth'))
pyramid = dict(in_channels=(64, 128, 320, 512), feature_strides=(4, 8, 16, 32))
