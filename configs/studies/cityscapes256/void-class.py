# OoD training with void as a class of its own on the 256x256 Cityscapes.
_base_ = ['../../_base_/tuned_cityscapes256.py', '../../_base_/methods/void_class.py']
model = _base_.method
train_dataloader = dict(
    sampler=dict(num_per_domain=4), dataset=dict(datasets=[_base_.void_class]))
