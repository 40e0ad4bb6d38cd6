# Generator and discriminators of pix2pixHD (Wang et al., CVPR 2018), of its public code's settings, without instance
# maps: what Lis et al. (ICCV 2019) train. A departure: 19 train ids and "unknown" in place of Cityscapes' 35 label ids.
_base_ = './spade.py'
normal_init = dict(type='Normal', layer=['Conv2d', 'ConvTranspose2d'], std=0.02)
model = dict(
    generator=dict(
        _delete_=True,
        type='Pix2PixHDGenerator',
        num_classes=19,
        base_channels=64,
        num_stages=4,
        num_blocks=9,
        init_cfg=normal_init),
    discriminator=dict(spectral_norm=False, init_cfg=dict(_delete_=True, **normal_init)),
    # The public code sums L_G over its two scales.
    gan_loss=dict(type='LeastSquaresGANLoss', loss_weight=2.0))
