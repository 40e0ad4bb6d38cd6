# The frozen segmenter's softmax entropy on the toy benchmarks, and its mIoU; nothing to train.
_base_ = [
    '../_base_/models/segmenter_toy.py', '../_base_/datasets/toy_streets.py', '../_base_/default_runtime.py'
]
model = dict(type='AnomalySegmentor', score='entropy')
# The segmenter reads images of its training size; scores come back at the images' own.
test_pipeline = [
    dict(type='LoadImage'),
    dict(type='Resize', scale=(256, 128), keep_ratio=False),
    dict(type='LoadAnomalyAnnotations'),
    dict(type='PackSegInputs', meta_keys=('img_path', 'ori_shape', 'img_shape', 'dataset_name', 'label_classes'))
]
test_dataloader = dict(
    dataset=dict(datasets=[
        dict(_base_.road_anomaly, pipeline=test_pipeline),
        dict(_base_.fishyscapes, pipeline=test_pipeline),
        dict(_base_.cityscapes, pipeline=test_pipeline)
    ]))
test_cfg = dict(type='TestLoop')
train_dataloader = val_dataloader = val_evaluator = None
