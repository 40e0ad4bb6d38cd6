# ESPNetv2 on the 256x256 Cityscapes at 512x256, from the public weights on, with dropout in front of its classifier.
_base_ = '../../espnetv2/espnetv2_cityscapes-1024x512.py'
segmenter_size = (256, 512)  # (H, W)
norm_cfg = dict(type='BN')
model = dict(
    data_preprocessor=dict(size=segmenter_size),
    backbone=dict(norm_cfg=norm_cfg),
    decode_head=dict(
        norm_cfg=norm_cfg,
        dropout_ratio=0.1,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, avg_non_ignore=True)))
load_from = 'checkpoints/espnetv2_cityscapes.pth'
resize = dict(type='Resize', scale=segmenter_size[::-1], keep_ratio=False, backend='pillow')
load_label = [dict(type='LoadAnnotations'), dict(type='LabelIdToTrainId')]
train_pipeline = [
    dict(type='LoadImageFromFile'), *load_label, resize,
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs')
]
test_pipeline = [dict(type='LoadImageFromFile'), resize, *load_label, dict(type='PackSegInputs')]
dataset = dict(data_root='data/cityscapes256/', img_suffix='_leftImg8bit.jpg')
train_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(**dataset, pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(**dataset, pipeline=test_pipeline))
test_dataloader = val_dataloader
max_iters = 300
optim_wrapper = dict(optimizer=dict(lr=0.002))
param_scheduler = [dict(type='PolyLR', eta_min=0.0, power=0.9, begin=0, end=max_iters, by_epoch=False)]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(_delete_=True, type='CheckpointHook', by_epoch=False, interval=max_iters // 2, max_keep_ckpts=1))
