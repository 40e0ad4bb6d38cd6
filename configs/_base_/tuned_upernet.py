# The UPerNet of MMSegmentation's model zoo, as the systems that train with outliers take it.
_base_ = './models/upernet_r50.py'
model = dict(data_preprocessor=dict(size=(512, 1024)))
last_block = ['decode_head.fpn_bottleneck', 'decode_head.conv_seg']
gmm_head = 'GMMUPerHead'
