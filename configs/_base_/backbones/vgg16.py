backbone = dict(
    type='VGGPyramid', depth=16,
    init_cfg=dict(
        type='Pretrained', prefix='backbone.',
        checkpoint='https://mmassets.onedl.ai/mmclassification/v0/vgg/vgg16_batch256_imagenet_20210208-db26f1a5.pth'))
pyramid = dict(in_channels=(64, 128, 256, 512), feature_strides=(1, 2, 4, 8))
