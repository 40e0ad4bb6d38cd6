# The DeepLabV3+ of MMSegmentation's model zoo, as the systems that train with outliers take it.
_base_ = './models/deeplabv3plus_r101-d8.py'
model = dict(data_preprocessor=dict(size=(512, 1024)))
last_block = ['decode_head.sep_bottleneck', 'decode_head.conv_seg']
gmm_head = 'GMMDepthwiseSeparableASPPHead'
