# Void as class C + 1, of void pixels alone.
_base_ = ['../trained_cityscapes.py', '../schedules/tune_40e.py', '../methods/void_class.py']
train_dataloader = dict(sampler=dict(num_per_domain=8), dataset=dict(datasets=[_base_.void_class]))
