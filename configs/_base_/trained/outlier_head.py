# Outlier Head with pasted negatives in half of the images.
_base_ = ['../trained_cityscapes.py', '../schedules/tune_40e.py', '../methods/outlier_head.py']
method = dict(outlier_head=dict(norm_cfg=dict(type='SyncBN')))
train_dataloader = dict(dataset=dict(datasets=[_base_.plain, _base_.single_objects]))
