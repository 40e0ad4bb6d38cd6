# Cityscapes squeezed to 256x256 (JPEG, labels of the official names): both training domains with offline maps, tested on
# RoadAnomaly online. For machines that cannot bear the full size.
work_size = (128, 256)  # (H, W)
train_pipeline = [
    dict(type='LoadImage'),
    dict(type='LoadAnomalyAnnotations'),
    dict(type='LoadDissimilarityMaps'),
    dict(type='ResizeDissimilarityInputs', scale=work_size[::-1]),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDissimilarityInputs')
]
# The ego vehicle is normal, not ignored as in the papers: it fills the lowest eighth of nearly every image, and a network
# that never learns there takes the road at the bottom of other cameras' images for an anomaly.
ignore_ids = (0, 2, 3, 6, 9, 10, 14, 15, 16, 18, 29, 30)
void_class = dict(
    type='VoidClassDataset',
    ignore_ids=ignore_ids,
    dataset_name='VoidClass256',
    data_root='data/cityscapes256/',
    maps_root='data/maps/cityscapes256/train',
    pipeline=train_pipeline)
anomaly_mix = dict(
    type='CompositeDataset',
    data_root='data/anomaly_mix256/',
    maps_root='data/maps/anomaly_mix256/train',
    pipeline=train_pipeline)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DomainBalancedSampler', batch_size=8, num_per_domain=4),
    dataset=dict(type='MultiDomainDataset', datasets=[void_class, anomaly_mix]))
test_pipeline = [dict(type='LoadImage'), dict(type='LoadAnomalyAnnotations'), dict(type='PackDissimilarityInputs')]
test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='RoadAnomalyDataset',
        dataset_name='RoadAnomaly',
        data_root='data/road_anomaly/',
        test_mode=True,
        pipeline=test_pipeline))
test_evaluator = dict(type='AnomalyMetric')
val_dataloader = test_dataloader
val_evaluator = test_evaluator
