# Outlier Head on the toy streets.
_base_ = ['../_base_/tuned_toy.py', '../_base_/methods/outlier_head.py']
model = _base_.method
