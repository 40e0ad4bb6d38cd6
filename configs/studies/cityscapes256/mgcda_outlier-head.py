# MGCDA as a plug-in to Outlier Head, trained in both domains, on the 256x256 Cityscapes.
_base_ = ['./outlier-head.py', '../../_base_/plugins/mgcda_cityscapes256.py']
default_hooks = dict(mdat=_base_.mdat)
model = dict(taps=dict(score='outlier_posterior', threshold=-2.0, embedding='decode_head.acts.2'), train_only=_base_.cacl)
train_dataloader = dict(dataset=dict(datasets=[_base_.void_class, _base_.anomaly_mix]))
