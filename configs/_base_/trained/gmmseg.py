# GMMSeg, trained from weights of ImageNet without outliers. Leaves add the schedule of their network.
_base_ = ['../trained_cityscapes.py', '../methods/gmmseg.py']
train_dataloader = dict(sampler=dict(num_per_domain=8), dataset=dict(datasets=[_base_.plain]))
