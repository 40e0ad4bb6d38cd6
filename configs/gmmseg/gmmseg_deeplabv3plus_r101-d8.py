# GMMSeg over DeepLabV3+.
_base_ = ['../_base_/tuned_deeplabv3plus.py', '../_base_/schedules/sgd_80k.py', '../_base_/trained/gmmseg.py']
model = dict(_base_.method, decode_head=dict(_base_.method.decode_head, type=_base_.gmm_head))
