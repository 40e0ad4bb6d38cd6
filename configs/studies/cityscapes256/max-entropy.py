# OoD training with maximum entropy on the 256x256 Cityscapes, at a fifth of the others' learning rate: its loss is that of
# outliers for nine tenths, and the classes are soon forgotten.
_base_ = ['../../_base_/tuned_cityscapes256.py', '../../_base_/methods/max_entropy.py']
model = _base_.method
optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_dataloader = dict(
    sampler=dict(num_per_domain=4), dataset=dict(datasets=[_base_.void_class]))
