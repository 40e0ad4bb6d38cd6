# The prior network on the toy streets.
_base_ = ['../_base_/tuned_toy.py', '../_base_/methods/dirichlet.py']
model = _base_.method
optim_wrapper = dict(clip_grad=_base_.clip_grad)
train_dataloader = dict(
    sampler=dict(num_per_domain=8), dataset=dict(datasets=[_base_.void_class]))
