# The light generator on the 256x256 Cityscapes.
_base_ = '../../spade/spade-light_cityscapes-128x256.py'
max_iters = 800
dataset = dict(data_root='data/cityscapes256/', img_suffix='_leftImg8bit.jpg')
train_dataloader = dict(num_workers=1, dataset=dataset)
val_dataloader = dict(num_workers=1, dataset=dataset)
test_dataloader = dict(num_workers=1, dataset=dataset)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1.0, end_factor=0.0, by_epoch=False, begin=max_iters // 2, end=max_iters)
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=max_iters // 4))
