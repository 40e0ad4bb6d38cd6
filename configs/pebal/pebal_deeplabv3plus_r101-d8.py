# PEBAL over the DeepLabV3+ of MMSegmentation's model zoo.
_base_ = ['../_base_/tuned_deeplabv3plus.py', '../_base_/trained/pebal.py']
model = dict(**_base_.method, tuned=_base_.last_block)
load_from = _base_.segmenter_checkpoint
