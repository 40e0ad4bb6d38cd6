# MGCDA as a plug-in to PEBAL, on the toy streets. Both domains have outliers; MDAT reads features behind the frozen layers,
# and an energy above PEBAL's margin of outliers counts as a predicted anomaly.
_base_ = ['./pebal.py', '../_base_/plugins/mgcda_toy.py']
default_hooks = dict(mdat=dict(_base_.mdat, feature_classifier=dict(type='DomainClassifier', in_channels=64)))
model = dict(
    taps=dict(score='energy', threshold=-6.0, features='decode_head.conv_seg:input'), train_only=_base_.cacl)
train_dataloader = dict(dataset=dict(datasets=[_base_.void_class, _base_.anomaly_mix]))
