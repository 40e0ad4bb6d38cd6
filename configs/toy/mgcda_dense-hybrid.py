# MGCDA as a plug-in to DenseHybrid, on the toy streets.
_base_ = ['./dense-hybrid.py', '../_base_/plugins/mgcda_toy.py']
default_hooks = dict(mdat=_base_.mdat)
model = dict(taps=dict(score='outlier_posterior'), train_only=_base_.cacl)
