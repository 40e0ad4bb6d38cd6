# The validation sets of SegmentMeIfYouCan.
_base_ = './benchmarks.py'
test_dataloader = dict(dataset=dict(datasets=[_base_.road_anomaly_21, _base_.road_obstacle_21]))
