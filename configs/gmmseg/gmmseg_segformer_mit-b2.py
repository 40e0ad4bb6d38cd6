# GMMSeg over SegFormer.
_base_ = ['../_base_/tuned_segformer.py', '../_base_/schedules/adamw_80k.py', '../_base_/trained/gmmseg.py']
model = dict(_base_.method, decode_head=dict(_base_.method.decode_head, type=_base_.gmm_head))
