# DenseHybrid over the DeepLabV3+ of MMSegmentation's model zoo.
_base_ = ['../_base_/tuned_deeplabv3plus.py', '../_base_/trained/dense_hybrid.py']
model = _base_.method
load_from = _base_.segmenter_checkpoint
