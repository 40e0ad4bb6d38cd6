# DenseHybrid on the 256x256 Cityscapes.
_base_ = ['../_base_/tuned_cityscapes256.py', '../_base_/methods/dense_hybrid.py']
model = _base_.method
