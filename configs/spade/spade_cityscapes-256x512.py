# The published settings: 200 epochs of 32 images, 4 on each of 8 GPUs; the learning rate falls from half-way on.
_base_ = ['../_base_/models/spade.py', '../_base_/datasets/resynthesis_cityscapes.py']
default_scope = 'mmseg'
custom_imports = dict(imports=['mgcda'], allow_failed_imports=False)
env_cfg = dict(
    cudnn_benchmark=True, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='nccl'))
visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')
log_processor = dict(by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
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
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1000, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SynthesisVisualizationHook'))
auto_scale_lr = dict(enable=False, base_batch_size=32)
