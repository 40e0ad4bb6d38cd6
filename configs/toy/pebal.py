# PEBAL on the toy streets.
_base_ = ['../_base_/tuned_toy.py', '../_base_/methods/pebal.py']
model = dict(**_base_.method, tuned=['decode_head.fusion_conv', 'decode_head.conv_seg'])
train_dataloader = dict(dataset=dict(datasets=[_base_.plain, _base_.anomaly_mix]))
