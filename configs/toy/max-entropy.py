# OoD training with maximum entropy on the toy streets.
_base_ = ['../_base_/tuned_toy.py', '../_base_/methods/max_entropy.py']
model = _base_.method
train_dataloader = dict(
    sampler=dict(num_per_domain=8), dataset=dict(datasets=[_base_.void_class]))
