# VoidClass and AnomalyMix, 4 + 4 a batch (section 4.2 of the paper); offline maps.
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
