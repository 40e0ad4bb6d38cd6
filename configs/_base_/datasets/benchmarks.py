# The public benchmarks at their own resolution, each reported under its own name. Other configs take from here the sets
# that they test on; tools/check_data.py says whether the files are right. Cityscapes, for the mIoU, is not among those
# that are tested on unless a leaf names it.
test_pipeline = [dict(type='LoadImage'), dict(type='LoadAnomalyAnnotations'), dict(type='PackDissimilarityInputs')]
# tools/test.py --tta: scores averaged over three scales, each also flipped.
tta_model = dict(type='AnomalyTTAModel')
tta_pipeline = [
    dict(type='LoadImage'),
    dict(
        type='TestTimeAug',
        transforms=[[dict(type='Resize', scale_factor=factor, keep_ratio=True) for factor in (0.75, 1.0, 1.25)],
                    [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)],
                    [dict(type='LoadAnomalyAnnotations')], [dict(type='PackDissimilarityInputs')]])
]
# The same for networks whose work size is fixed, which would bring all scales back to one: flipped alone.
flip_pipeline = [
    dict(type='LoadImage'),
    dict(
        type='TestTimeAug',
        transforms=[[dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)],
                    [dict(type='LoadAnomalyAnnotations')], [dict(type='PackDissimilarityInputs')]])
]
road_anomaly = dict(
    type='RoadAnomalyDataset',
    dataset_name='RoadAnomaly',
    data_root='data/road_anomaly/',
    test_mode=True,
    pipeline=test_pipeline)
fs_lost_and_found = dict(
    type='FishyscapesDataset',
    dataset_name='FS_LostAndFound',
    data_root='data/fishyscapes/LostAndFound/',
    test_mode=True,
    pipeline=test_pipeline)
fs_static = dict(
    type='FishyscapesDataset',
    dataset_name='FS_Static',
    data_root='data/fishyscapes/Static/',
    test_mode=True,
    pipeline=test_pipeline)
road_anomaly_21 = dict(
    type='SMIYCDataset',
    track='RoadAnomaly21',
    dataset_name='RoadAnomaly21',
    data_root='data/smiyc/dataset_AnomalyTrack/',
    test_mode=True,
    pipeline=test_pipeline)
road_obstacle_21 = dict(
    type='SMIYCDataset',
    track='RoadObstacle21',
    dataset_name='RoadObstacle21',
    data_root='data/smiyc/dataset_ObstacleTrack/',
    test_mode=True,
    pipeline=test_pipeline)
lost_and_found_test = dict(
    type='LostAndFoundDataset',
    split='test',
    dataset_name='LostAndFound_test',
    data_root='data/lost_and_found/',
    test_mode=True,
    pipeline=test_pipeline)
lost_and_found_no_known = dict(
    type='LostAndFoundDataset',
    split='test_no_known',
    dataset_name='LostAndFound_testNoKnown',
    data_root='data/lost_and_found/',
    test_mode=True,
    pipeline=test_pipeline)
cityscapes = dict(
    type='ClassLabelDataset',
    dataset_name='Cityscapes',
    data_root='data/cityscapes/',
    test_mode=True,
    pipeline=test_pipeline)
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='ConcatDataset',
        datasets=[
            road_anomaly, fs_lost_and_found, fs_static, road_anomaly_21, road_obstacle_21, lost_and_found_test,
            lost_and_found_no_known
        ]))
test_evaluator = dict(type='AnomalyMetric')
