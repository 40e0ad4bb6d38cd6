# The schedule of SPADE's paper (Park et al., CVPR 2019) for Cityscapes: 200 epochs of 32 images, 4 on each of 8 GPUs; the
# learning rate falls from half-way on. What differs from NVlabs' code stands in ../_base_/models/spade.py.
_base_ = ['../_base_/models/spade.py', '../_base_/datasets/resynthesis_cityscapes.py', '../_base_/default_runtime.py']
max_iters = 18600
# One Adam for both players; the discriminators learn four times as fast (1e-4 and 4e-4).
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='Adam', lr=1e-4, betas=(0.0, 0.9)),
    paramwise_cfg=dict(custom_keys={'discriminator': dict(lr_mult=4.0)}))
param_scheduler = [
    dict(type='LinearLR', start_factor=1.0, end_factor=0.0, by_epoch=False, begin=max_iters // 2, end=max_iters)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=1000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=1000),
    visualization=dict(_delete_=True, type='SynthesisVisualizationHook'))
auto_scale_lr = dict(enable=False, base_batch_size=32)
