# The test sets of the paper in one run, with offline maps; labels stay at their own resolution.
_base_ = './benchmarks.py'
test_pipeline = [
    dict(type='LoadImage'),
    dict(type='LoadDissimilarityMaps'),
    dict(type='ResizeDissimilarityInputs', scale=(512, 256)),
    dict(type='LoadAnomalyAnnotations'),
    dict(type='PackDissimilarityInputs')
]
fs_lost_and_found = dict(maps_root='data/maps/fishyscapes/LostAndFound', pipeline=test_pipeline)
fs_static = dict(maps_root='data/maps/fishyscapes/Static', pipeline=test_pipeline)
road_anomaly = dict(maps_root='data/maps/road_anomaly', pipeline=test_pipeline)
test_dataloader = dict(
    dataset=dict(datasets=[
        dict(_base_.fs_lost_and_found, **fs_lost_and_found),
        dict(_base_.fs_static, **fs_static),
        dict(_base_.road_anomaly, **road_anomaly)
    ]))
