# RoadAnomaly at its own resolution; the maps are computed online.
test_pipeline = [dict(type='LoadImage'), dict(type='LoadAnomalyAnnotations'), dict(type='PackDissimilarityInputs')]
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='RoadAnomalyDataset',
        dataset_name='RoadAnomaly',
        data_root='data/road_anomaly/',
        test_mode=True,
        pipeline=test_pipeline))
test_evaluator = dict(type='AnomalyMetric')
