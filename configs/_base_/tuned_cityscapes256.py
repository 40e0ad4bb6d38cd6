# ESPNetv2 on the 256x256 Cityscapes (configs/studies/cityscapes256/segmenter.py), tuned on void pixels and on pasted
# objects, 2 + 2 a batch. Leaves add a method.
_base_ = ['./models/espnetv2.py', './datasets/cityscapes256_outliers.py', './schedules/tune_200.py']
norm_cfg = dict(type='BN')
model = dict(
    data_preprocessor=dict(size=(256, 512)),
    backbone=dict(norm_cfg=norm_cfg),
    decode_head=dict(norm_cfg=norm_cfg, dropout_ratio=0.1))
train_dataloader = dict(batch_size=4, sampler=dict(batch_size=4, num_per_domain=2))
load_from = 'work_dirs/cityscapes256/segmenter/iter_300.pth'
