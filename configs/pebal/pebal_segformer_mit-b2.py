# PEBAL over the SegFormer of MMSegmentation's model zoo.
_base_ = ['../_base_/tuned_segformer.py', '../_base_/trained/pebal.py']
model = dict(**_base_.method, tuned=_base_.last_block)
load_from = _base_.segmenter_checkpoint
