# Outlier Head on the toy streets: pasted negatives, and negative images.
_base_ = './outlier-head.py'
train_dataloader = dict(
    sampler=dict(num_per_domain=(6, 2)), dataset=dict(datasets=[_base_.single_objects, _base_.negatives]))
