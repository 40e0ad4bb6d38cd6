# The generator of pix2pixHD on the 256x256 Cityscapes; narrower and shallower, with the other losses of the light
# generator.
_base_ = './generator.py'
model = dict(
    generator=dict(_delete_=True, type='Pix2PixHDGenerator', base_channels=16, num_stages=3, num_blocks=4),
    gan_loss=dict(type='LeastSquaresGANLoss'))
