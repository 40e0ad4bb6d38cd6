# PEBAL over the UPerNet of MMSegmentation's model zoo.
_base_ = ['../_base_/tuned_upernet.py', '../_base_/trained/pebal.py']
model = dict(**_base_.method, tuned=_base_.last_block, auxiliary_head=None)
load_from = _base_.segmenter_checkpoint
