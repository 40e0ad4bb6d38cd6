# Section 4.4.1, Mix: both domains, no alignment.
_base_ = '../_base_/dissimilarity_cityscapes.py'
