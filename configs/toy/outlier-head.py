# Outlier Head on the toy streets: void pixels, and pasted negatives.
_base_ = ['../_base_/tuned_toy.py', '../_base_/methods/outlier_head.py']
model = _base_.method
