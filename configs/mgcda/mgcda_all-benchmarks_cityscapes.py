# MGCDA, tested on all public benchmarks in one run.
_base_ = '../mgcda_cityscapes.py'
test_dataloader = dict(
    dataset=dict(datasets=[
        _base_.road_anomaly, _base_.fs_lost_and_found, _base_.fs_static, _base_.road_anomaly_21,
        _base_.road_obstacle_21, _base_.lost_and_found_test, _base_.lost_and_found_no_known
    ]))
