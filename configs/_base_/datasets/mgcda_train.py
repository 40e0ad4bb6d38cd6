# VoidClass and AnomalyMix, 4 + 4 a batch (section 4.2 of the paper); offline maps.
#
# Section 3.2 takes the generators of SynBoost (VoidClass) and of PEBAL (AnomalyMix). The composites are those of PEBAL's
# recipe (anomaly_mix_paste.py). Of void, the paper labels "objects within the void class": 4 (static) and 5 (dynamic). The
# ids of SynBoost's code, anomaly_ids='synboost', leave out 5 and take the borders of images (0, 2, 3), which are no objects.
work_size = (256, 512)  # (H, W)
train_pipeline = [
    dict(type='LoadImage'),
    dict(type='LoadAnomalyAnnotations'),
    dict(type='LoadDissimilarityMaps'),
    dict(type='ResizeDissimilarityInputs', scale=work_size[::-1]),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDissimilarityInputs')
]
void_class = dict(
    type='VoidClassDataset',
    anomaly_ids='objects',
    data_root='data/cityscapes/',
    data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
    maps_root='data/maps/cityscapes/train',
    pipeline=train_pipeline)
anomaly_mix = dict(
    type='CompositeDataset',
    data_root='data/anomaly_mix/',
    data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
    maps_root='data/maps/anomaly_mix/train',
    pipeline=train_pipeline)
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DomainBalancedSampler', batch_size=8, num_per_domain=4),
    dataset=dict(type='MultiDomainDataset', datasets=[void_class, anomaly_mix]))
