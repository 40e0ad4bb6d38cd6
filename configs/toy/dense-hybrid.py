# DenseHybrid on the toy streets: pasted negatives.
_base_ = ['../_base_/tuned_toy.py', '../_base_/methods/dense_hybrid.py']
model = _base_.method
train_dataloader = dict(
    sampler=dict(num_per_domain=8), dataset=dict(datasets=[_base_.single_objects]))
