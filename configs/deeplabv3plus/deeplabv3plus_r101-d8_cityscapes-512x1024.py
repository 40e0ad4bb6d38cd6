# The flagship's frozen segmenter, for the weights that the base names (segmenter_checkpoint).
_base_ = '../_base_/models/deeplabv3plus_r101-d8.py'
