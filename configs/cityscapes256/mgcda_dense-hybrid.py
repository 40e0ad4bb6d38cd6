# MGCDA as a plug-in to DenseHybrid, on the 256x256 Cityscapes.
_base_ = ['./dense-hybrid.py', '../_base_/plugins/mgcda_cityscapes256.py']
default_hooks = dict(mdat=_base_.mdat)
model = dict(taps=dict(score='outlier_posterior', embedding='decode_head.acts.2'), train_only=_base_.cacl)
