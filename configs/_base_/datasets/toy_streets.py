# Toy streets (demo/toy_streets.py), 128x256: both training domains with offline maps, and two test sets in other styles.
# `make demo` writes all of it below data_root. A segmenter can also be tested on the classes of the validation streets.
data_root = 'data/toy/'
work_size = (128, 256)  # (H, W)
train_pipeline = [
    dict(type='LoadImage'),
    dict(type='LoadAnomalyAnnotations'),
    dict(type='LoadDissimilarityMaps'),
    dict(type='ResizeDissimilarityInputs', scale=work_size[::-1]),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDissimilarityInputs')
]
void_class = dict(
    type='VoidClassDataset',
    dataset_name='ToyVoidClass',
    data_root=data_root + 'cityscapes',
    maps_root=data_root + 'maps/cityscapes',
    pipeline=train_pipeline)
anomaly_mix = dict(
    type='CompositeDataset',
    data_root=data_root + 'anomaly_mix',
    maps_root=data_root + 'maps/anomaly_mix',
    pipeline=train_pipeline)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DomainBalancedSampler', batch_size=8, num_per_domain=4),
    dataset=dict(type='MultiDomainDataset', datasets=[void_class, anomaly_mix]))
test_pipeline = [dict(type='LoadImage'), dict(type='LoadAnomalyAnnotations'), dict(type='PackDissimilarityInputs')]
road_anomaly = dict(
    type='RoadAnomalyDataset',
    dataset_name='ToyRoadAnomaly',
    data_root=data_root + 'road_anomaly',
    test_mode=True,
    pipeline=test_pipeline)
fishyscapes = dict(
    type='FishyscapesDataset',
    dataset_name='ToyFishyscapes',
    data_root=data_root + 'fishyscapes',
    test_mode=True,
    pipeline=test_pipeline)
cityscapes = dict(
    type='ClassLabelDataset',
    dataset_name='ToyCityscapes',
    data_root=data_root + 'cityscapes',
    test_mode=True,
    pipeline=test_pipeline)
test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(type='ConcatDataset', datasets=[road_anomaly, fishyscapes]))
test_evaluator = dict(type='AnomalyMetric')
val_dataloader = test_dataloader
val_evaluator = test_evaluator
