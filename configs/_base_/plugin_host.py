# A host that MGCDA is plugged into: SegFormer's head over a backbone with weights of ImageNet, trained with outliers in
# both domains. A method and a backbone join it.
_base_ = [
    './models/segformer.py', './trained_cityscapes.py', './schedules/adamw_80k.py', './plugins/mgcda.py'
]
model = dict(data_preprocessor=dict(size=_base_.crop_size))
default_hooks = dict(mdat=_base_.mdat)
cacl = dict(projector=dict(in_channels=_base_.model.decode_head.channels))
