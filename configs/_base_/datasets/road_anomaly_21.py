# RoadAnomaly21 of SegmentMeIfYouCan (validation) alone.
_base_ = './benchmarks.py'
test_dataloader = dict(dataset=dict(_base_.road_anomaly_21, _delete_=True))
