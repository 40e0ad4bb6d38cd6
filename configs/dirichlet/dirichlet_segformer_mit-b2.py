# The prior network over the SegFormer of MMSegmentation's model zoo.
_base_ = ['../_base_/tuned_segformer.py', '../_base_/trained/dirichlet.py']
model = _base_.method
load_from = _base_.segmenter_checkpoint
