# Generator and discriminators of SPADE (Park et al., CVPR 2019). Departures from NVlabs' public code for Cityscapes: the
# label map has the 19 train ids and one channel for "unknown", where theirs has 35 label ids and a channel of instance
# edges; five upsamplings, where theirs are six (`num_upsampling_layers='more'`: a smallest map of 4x8 at 256x512); no
# biases in the stem and the blocks.
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[127.5, 127.5, 127.5],
    std=[127.5, 127.5, 127.5],
    bgr_to_rgb=True,
    size_divisor=32,
    pad_val=0,
    seg_pad_val=255)
weight_init = dict(type='Xavier', layer='Conv2d', gain=0.02)
model = dict(
    type='Resynthesizer',
    data_preprocessor=data_preprocessor,
    generator=dict(
        type='SPADEGenerator',
        num_classes=19,
        base_channels=64,
        num_stages=5,
        hidden_channels=128,
        norm='sync',
        init_cfg=weight_init),
    discriminator=dict(
        type='MultiScalePatchDiscriminator',
        in_channels=3 + 19 + 1,
        num_scales=2,
        base_channels=64,
        num_layers=4,
        init_cfg=weight_init),
    gan_loss=dict(type='HingeGANLoss', loss_weight=1.0),
    feature_loss=dict(type='FeatureMatchingLoss', loss_weight=10.0),
    perceptual_loss=dict(
        type='VGGPerceptualLoss',
        loss_weight=10.0,
        backbone=dict(
            type='VGGPyramid',
            depth=19,
            num_stages=5,
            position='first',
            init_cfg=dict(
                type='Pretrained',
                checkpoint='https://mmassets.onedl.ai/mmclassification/v0/vgg/'
                'vgg19_batch256_imagenet_20210208-e6920e4a.pth',
                prefix='backbone.'))))
