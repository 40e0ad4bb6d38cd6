# MGCDA as a plug-in to DenseHybrid, trained in both domains, on the toy streets.
_base_ = ['./dense-hybrid.py', '../_base_/plugins/mgcda_toy.py']
default_hooks = dict(mdat=_base_.mdat)
model = dict(taps=dict(score='outlier_posterior', threshold=-2.0), train_only=_base_.cacl)
train_dataloader = dict(
    sampler=dict(num_per_domain=4), dataset=dict(datasets=[_base_.void_class, _base_.anomaly_mix]))
