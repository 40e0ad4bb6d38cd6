# For a CPU: about half a second an iteration of 4 images on 2 cores. Departures from the base config: fewer and
# narrower layers, instance norm, a pixel shuffle in place of the last upsampling, one discriminator, an L1 term in
# place of VGG's, a larger learning rate.
_base_ = './spade_cityscapes-256x512.py'
generator_size = (128, 256)  # (H, W)
model = dict(
    generator=dict(
        base_channels=16, num_stages=4, hidden_channels=32, norm='instance', out_shuffle=2, init_cfg=None),
    discriminator=dict(num_scales=1, base_channels=16, num_layers=3, init_cfg=None),
    perceptual_loss=None,
    pixel_loss_weight=10.0)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='LabelIdToTrainId'),
    dict(type='ResizeDissimilarityInputs', scale=generator_size[::-1]),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='LabelIdToTrainId'),
    dict(type='ResizeDissimilarityInputs', scale=generator_size[::-1]),
    dict(type='PackSegInputs')
]
train_dataloader = dict(num_workers=2, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
max_iters = 4000
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=1.0, end_factor=0.0, by_epoch=False, begin=max_iters // 2, end=max_iters)
]
train_cfg = dict(max_iters=max_iters)
