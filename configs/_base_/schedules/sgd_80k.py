# MMSegmentation's schedule for convolutional networks on Cityscapes, from weights of ImageNet: SGD 0.01, 80k iterations.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=1e-4, begin=0, end=80000, by_epoch=False)]
train_cfg = dict(type='ResumableIterTrainLoop', max_iters=80000, val_interval=8000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=True, base_batch_size=8)
