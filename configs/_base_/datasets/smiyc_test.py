# All images of SegmentMeIfYouCan, as a submission needs them. The labels of its test sets are hidden: score maps are
# written, and nothing is scored.
_base_ = './benchmarks.py'
test_pipeline = [dict(type='LoadImage'), dict(type='PackDissimilarityInputs')]
road_anomaly_21 = dict(split='all', pipeline=test_pipeline)
road_obstacle_21 = dict(split='all', pipeline=test_pipeline)
test_dataloader = dict(
    dataset=dict(datasets=[
        dict(_base_.road_anomaly_21, **road_anomaly_21),
        dict(_base_.road_obstacle_21, **road_obstacle_21)
    ]))
test_evaluator = dict(format_only=True)
