# A dissimilarity network for CPUs: ResNet-18 of a quarter of the width, a narrow head, and frozen networks to match. The
# perceptual difference is that of the segmenter's own features (no VGG19): a departure.
model = dict(
    type='DissimilaritySegmentor',
    data_preprocessor=dict(type='DissimilarityDataPreProcessor'),
    backbone=dict(
        type='ResNetV1c',
        depth=18,
        base_channels=16,
        stem_channels=16,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type='BN')),
    decode_head=dict(
        type='DissimilarityDecodeHead',
        in_channels=(16, 32, 64, 128),
        feature_strides=(4, 8, 16, 32),
        fusion_channels=(16, 24, 32, 64),
        semantic_channels=(8, 16, 24, 32),
        decoder_channels=(16, 24, 32, 48),
        spade_channels=16,
        loss_decode=dict(type='PixelCrossEntropyLoss')),
    frozen=dict(
        type='FrozenMaps',
        segmenter=dict(config='configs/toy/segmenter.py', checkpoint='work_dirs/toy/segmenter/iter_250.pth'),
        generator=dict(config='configs/toy/generator.py', checkpoint='work_dirs/toy/generator/iter_200.pth'),
        segmenter_size=(128, 256),
        generator_size=(128, 256),
        normalisation='image'),
    work_size=(128, 256),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
