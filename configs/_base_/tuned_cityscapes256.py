# ESPNetv2 on the 256x256 Cityscapes (configs/cityscapes256/segmenter.py), tuned on void pixels and on pasted objects. Leaves
# add a method.
_base_ = ['./models/espnetv2.py', './datasets/cityscapes256_outliers.py', './default_runtime.py']
norm_cfg = dict(type='BN')
model = dict(
    data_preprocessor=dict(size=(256, 512)),
    backbone=dict(norm_cfg=norm_cfg),
    decode_head=dict(norm_cfg=norm_cfg, dropout_ratio=0.1))
max_iters = 200
train_dataloader = dict(batch_size=4, sampler=dict(batch_size=4, num_per_domain=2))
load_from = 'work_dirs/cityscapes256/segmenter/iter_300.pth'
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.01))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=max_iters, by_epoch=False)]
train_cfg = dict(type='ResumableIterTrainLoop', max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(interval=20, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=100, max_keep_ckpts=1))
