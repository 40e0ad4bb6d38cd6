# The SegFormer of MMSegmentation's model zoo, as the systems that train with outliers take it.
_base_ = './models/segformer_mit-b2.py'
model = dict(data_preprocessor=dict(size=(512, 1024)))
last_block = ['decode_head.fusion_conv', 'decode_head.conv_seg']
gmm_head = 'GMMSegformerHead'
