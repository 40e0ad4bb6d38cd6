# Objects of COCO pasted into Cityscapes on the fly, without maps; make_anomaly_mix.py writes its composites to disk.
work_size = (256, 512)  # (H, W)
train_pipeline = [
    dict(type='LoadImage'),
    dict(type='LoadAnomalyAnnotations'),
    dict(type='PasteObjects', num_objects=(1, 3), scale=(0.1, 0.5), position='anywhere'),
    dict(type='Resize', scale=work_size[::-1], keep_ratio=False),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDissimilarityInputs')
]
anomaly_mix = dict(
    type='AnomalyMixDataset',
    data_root='data/cityscapes/',
    data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
    objects=dict(
        data_root='data/coco/', ann_file='annotations/instances_train2017.json', img_path='train2017', min_area=1500),
    pipeline=train_pipeline)
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DomainBalancedSampler', batch_size=8),
    dataset=dict(type='MultiDomainDataset', datasets=[anomaly_mix]))
