# Outlier Head on the 256x256 Cityscapes: pasted negatives, and negative images.
_base_ = './outlier-head.py'
train_dataloader = dict(
    sampler=dict(num_per_domain=(3, 1)), dataset=dict(datasets=[_base_.single_objects, _base_.negatives]))
