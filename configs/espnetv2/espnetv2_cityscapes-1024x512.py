# ESPNetv2 on Cityscapes; public weights through tools/model_converters/espnetv2_to_mgcda.py. Their authors trained at
# 1024x512 and resized with Pillow. The schedule here is MMSegmentation's for Cityscapes, not theirs.
_base_ = ['../_base_/models/espnetv2.py', '../_base_/default_runtime.py']
data_root = 'data/cityscapes/'
segmenter_size = (512, 1024)  # (H, W)
resize = dict(type='Resize', scale=segmenter_size[::-1], keep_ratio=False, backend='pillow')
load_label = [dict(type='LoadAnnotations'), dict(type='LabelIdToTrainId')]
train_pipeline = [
    dict(type='LoadImageFromFile'), *load_label,
    dict(type='RandomResize', scale=segmenter_size[::-1], ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=segmenter_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs')
]
test_pipeline = [dict(type='LoadImageFromFile'), resize, *load_label, dict(type='PackSegInputs')]
dataset = dict(
    type='CityscapesDataset',
    data_root=data_root,
    img_suffix='_leftImg8bit.png',
    seg_map_suffix='_gtFine_labelIds.png')
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        **dataset,
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset, data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'), pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
model = dict(data_preprocessor=dict(size=segmenter_size))
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0005))
param_scheduler = [dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=80000, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=80000, val_interval=8000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=8000, save_best='mIoU', max_keep_ckpts=1))
