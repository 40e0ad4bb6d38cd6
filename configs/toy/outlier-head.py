# Outlier Head on the toy streets: void pixels, pasted negatives, and negative images.
_base_ = ['../_base_/tuned_toy.py', '../_base_/methods/outlier_head.py']
model = _base_.method
train_dataloader = dict(
    sampler=dict(num_per_domain=(3, 4, 1)),
    dataset=dict(datasets=[_base_.void_class, _base_.anomaly_mix, _base_.negatives]))
