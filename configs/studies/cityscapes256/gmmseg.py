# GMMSeg on the 256x256 Cityscapes.
_base_ = ['../../_base_/tuned_cityscapes256.py', '../../_base_/methods/gmmseg.py']
model = dict(
    _base_.method, decode_head=dict(_base_.method.decode_head, type='GMMESPNetv2Head', embed_channels=16))
train_dataloader = dict(
    sampler=dict(num_per_domain=4), dataset=dict(datasets=[_base_.plain]))
