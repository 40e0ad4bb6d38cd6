# GMMSeg on the toy streets.
_base_ = ['../_base_/tuned_toy.py', '../_base_/methods/gmmseg.py']
model = dict(_base_.method, decode_head=dict(_base_.method.decode_head, type='GMMSegformerHead'))
train_dataloader = dict(
    sampler=dict(num_per_domain=8), dataset=dict(datasets=[_base_.plain]))
