# The test sets of the paper in one run; the maps are computed online.
_base_ = './benchmarks.py'
test_dataloader = dict(
    dataset=dict(datasets=[_base_.fs_lost_and_found, _base_.fs_static, _base_.road_anomaly]))
