# MGCDA as a plug-in to DenseHybrid, trained in both domains, on the 256x256 Cityscapes.
_base_ = ['./dense-hybrid.py', '../../_base_/plugins/mgcda_cityscapes256.py']
default_hooks = dict(mdat=_base_.mdat)
model = dict(taps=dict(score='outlier_posterior', threshold=-2.0, embedding='decode_head.acts.2'), train_only=_base_.cacl)
train_dataloader = dict(
    sampler=dict(num_per_domain=2), dataset=dict(datasets=[_base_.void_class, _base_.anomaly_mix]))
