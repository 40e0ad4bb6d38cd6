# DenseHybrid as in the authors' code: Adam 1e-6 throughout 10 epochs, negatives in each image.
_base_ = ['../trained_cityscapes.py', '../schedules/tune_40e.py', '../methods/dense_hybrid.py']
method = dict(outlier_head=dict(norm_cfg=dict(type='SyncBN')))
optim_wrapper = dict(optimizer=dict(lr=1e-6))
param_scheduler = []
train_cfg = dict(max_iters=10 * 372)
train_dataloader = dict(sampler=dict(num_per_domain=8), dataset=dict(datasets=[_base_.single_objects]))
