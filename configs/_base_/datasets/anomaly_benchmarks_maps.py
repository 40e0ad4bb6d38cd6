# All test sets of the paper in one run, with offline maps; labels stay at their own resolution.
test_pipeline = [
    dict(type='LoadImage'),
    dict(type='LoadDissimilarityMaps'),
    dict(type='Resize', scale=(512, 256), keep_ratio=False),
    dict(type='LoadAnomalyAnnotations'),
    dict(type='PackDissimilarityInputs')
]
fs_lost_and_found = dict(
    type='FishyscapesDataset',
    dataset_name='FS_LostAndFound',
    data_root='data/fishyscapes/LostAndFound/',
    maps_root='data/maps/fishyscapes/LostAndFound',
    test_mode=True,
    pipeline=test_pipeline)
fs_static = dict(
    type='FishyscapesDataset',
    dataset_name='FS_Static',
    data_root='data/fishyscapes/Static/',
    maps_root='data/maps/fishyscapes/Static',
    test_mode=True,
    pipeline=test_pipeline)
road_anomaly = dict(
    type='RoadAnomalyDataset',
    dataset_name='RoadAnomaly',
    data_root='data/road_anomaly/',
    maps_root='data/maps/road_anomaly',
    test_mode=True,
    pipeline=test_pipeline)
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(type='ConcatDataset', datasets=[fs_lost_and_found, fs_static, road_anomaly]))
test_evaluator = dict(type='AnomalyMetric')
