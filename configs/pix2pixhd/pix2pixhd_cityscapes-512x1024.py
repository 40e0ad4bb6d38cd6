# The generator of "Detecting the Unexpected via Image Resynthesis" (Lis et al., ICCV 2019): crops of 384x384 out of
# 512x1024, 4 a batch, Adam 2e-4, which falls to nothing over the second half of 200 epochs.
_base_ = [
    '../_base_/models/pix2pixhd.py', '../_base_/datasets/resynthesis_cityscapes.py', '../_base_/default_runtime.py'
]
generator_size = (512, 1024)  # (H, W)
max_iters = 148800
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='LabelIdToTrainId'),
    dict(type='ResizeDissimilarityInputs', scale=generator_size[::-1]),
    dict(type='RandomCrop', crop_size=(384, 384)),
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
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=2e-4, betas=(0.5, 0.999)))
param_scheduler = [
    dict(type='LinearLR', start_factor=1.0, end_factor=0.0, by_epoch=False, begin=max_iters // 2, end=max_iters)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=10000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=10000),
    visualization=dict(_delete_=True, type='SynthesisVisualizationHook'))
auto_scale_lr = dict(enable=False, base_batch_size=4)
