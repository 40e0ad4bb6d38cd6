# The dissimilarity network of SynBoost (Di Biase et al., CVPR 2021) on VGG16, which MGCDA trains (section 3.1).
# A departure: the paper takes SynBoost's frozen networks, DeepLabV3+ on WideResNet38 and the CC-FPSE generator; these
# are a DeepLabV3+ of MMSegmentation's model zoo and the SPADE generator of configs/spade.
vgg_weights = 'https://mmassets.onedl.ai/mmclassification/v0/vgg/'
model = dict(
    type='DissimilaritySegmentor',
    data_preprocessor=dict(type='DissimilarityDataPreProcessor'),
    backbone=dict(
        type='VGGPyramid',
        depth=16,
        init_cfg=dict(
            type='Pretrained', checkpoint=vgg_weights + 'vgg16_batch256_imagenet_20210208-db26f1a5.pth',
            prefix='backbone.')),
    decode_head=dict(
        type='DissimilarityDecodeHead',
        in_channels=(64, 128, 256, 512),
        feature_strides=(1, 2, 4, 8),
        fusion_channels=(64, 128, 256, 512),
        semantic_channels=(32, 64, 128, 256),
        decoder_channels=(64, 128, 256, 256),
        loss_decode=dict(type='PixelCrossEntropyLoss')),
    frozen=dict(
        type='FrozenMaps',
        segmenter=dict(
            config='configs/deeplabv3plus/deeplabv3plus_r101-d8_cityscapes-512x1024.py',
            checkpoint='https://mmassets.onedl.ai/mmsegmentation/v0.5/deeplabv3plus/'
            'deeplabv3plus_r101-d8_512x1024_80k_cityscapes/'
            'deeplabv3plus_r101-d8_512x1024_80k_cityscapes_20200606_114143-068fcfe9.pth'),
        generator=dict(
            config='configs/spade/spade_cityscapes-256x512.py',
            checkpoint='checkpoints/spade_cityscapes-256x512.pth'),
        perceptual=dict(
            backbone=dict(
                type='VGGPyramid',
                depth=19,
                num_stages=5,
                position='first',
                init_cfg=dict(
                    type='Pretrained', checkpoint=vgg_weights + 'vgg19_batch256_imagenet_20210208-e6920e4a.pth',
                    prefix='backbone.')),
            weights=(1 / 32, 1 / 16, 1 / 8, 1 / 4, 1)),
        segmenter_size=(1024, 2048),
        generator_size=(256, 512),
        normalisation='image'),
    work_size=(256, 512),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
