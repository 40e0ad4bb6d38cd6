# MGCDA as a plug-in to PEBAL, on the 256x256 Cityscapes. Both domains have outliers; MDAT and CACL read features behind the
# frozen layers, and an energy above PEBAL's margin of outliers counts as a predicted anomaly.
_base_ = ['./pebal.py', '../../_base_/plugins/mgcda_cityscapes256.py']
default_hooks = dict(mdat=dict(_base_.mdat, feature_classifier=dict(type='DomainClassifier', in_channels=10)))
model = dict(
    taps=dict(score='energy', threshold=-6.0, features='decode_head.conv_seg:input'),
    train_only=dict(_base_.cacl, projector=dict(type='Projector', in_channels=10, channels=(64, 128))))
train_dataloader = dict(dataset=dict(datasets=[_base_.void_class, _base_.anomaly_mix]))
