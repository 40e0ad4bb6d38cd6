# Outlier Head on the 256x256 Cityscapes: void pixels, and pasted negatives.
_base_ = ['../_base_/tuned_cityscapes256.py', '../_base_/methods/outlier_head.py']
model = _base_.method
