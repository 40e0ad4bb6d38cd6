# PEBAL on the 256x256 Cityscapes: the last pyramid pooling and the classifier are tuned.
_base_ = ['../../_base_/tuned_cityscapes256.py', '../../_base_/methods/pebal.py']
model = dict(**_base_.method, tuned=['decode_head.pools.3', 'decode_head.conv_seg'])
train_dataloader = dict(dataset=dict(datasets=[_base_.plain, _base_.anomaly_mix]))
