# OoD training with void as a class of its own on the toy streets.
_base_ = ['../_base_/tuned_toy.py', '../_base_/methods/void_class.py']
model = _base_.method
train_dataloader = dict(
    sampler=dict(num_per_domain=8), dataset=dict(datasets=[_base_.void_class]))
