# The prior network on the 256x256 Cityscapes.
_base_ = ['../../_base_/tuned_cityscapes256.py', '../../_base_/methods/dirichlet.py']
model = _base_.method
optim_wrapper = dict(clip_grad=_base_.clip_grad)
train_dataloader = dict(
    sampler=dict(num_per_domain=4), dataset=dict(datasets=[_base_.void_class]))
