# Outlier Head with pasted negatives in six images and two negative images in a batch of eight.
_base_ = './outlier-head_deeplabv3plus_r101-d8.py'
train_dataloader = dict(
    sampler=dict(num_per_domain=(6, 2)), dataset=dict(datasets=[_base_.single_objects, _base_.negatives]))
