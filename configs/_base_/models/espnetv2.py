# ESPNetv2, s = 2.0 (Mehta et al., CVPR 2019): 0.79 M parameters.
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255),
    backbone=dict(type='ESPNetv2', widen_factor=2.0, norm_cfg=norm_cfg),
    decode_head=dict(
        type='ESPNetv2Head', in_channels=(32, 128, 256, 512), channels=10, num_classes=19, norm_cfg=norm_cfg),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
