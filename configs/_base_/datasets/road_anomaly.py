# RoadAnomaly alone.
_base_ = './benchmarks.py'
test_dataloader = dict(dataset=dict(_base_.road_anomaly, _delete_=True))
