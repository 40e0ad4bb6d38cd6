# DenseHybrid on the toy streets.
_base_ = ['../_base_/tuned_toy.py', '../_base_/methods/dense_hybrid.py']
model = _base_.method
