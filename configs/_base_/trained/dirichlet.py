# The prior network, with void pixels as outliers.
_base_ = ['../trained_cityscapes.py', '../schedules/tune_40e.py', '../methods/dirichlet.py']
optim_wrapper = dict(clip_grad=_base_.clip_grad)
train_dataloader = dict(sampler=dict(num_per_domain=8), dataset=dict(datasets=[_base_.void_class]))
