# What make_anomaly_mix.py writes for the toy streets.
data_root = 'data/toy/'
train_pipeline = [
    dict(type='LoadImage'),
    dict(type='LoadAnomalyAnnotations'),
    dict(type='PasteObjects', num_objects=(1, 3), scale=(0.1, 0.5), position='anywhere')
]
train_dataloader = dict(
    dataset=dict(
        type='AnomalyMixDataset',
        data_root=data_root + 'cityscapes',
        objects=dict(
            data_root=data_root + 'coco', ann_file='annotations/instances.json', img_path='images', min_area=200),
        pipeline=train_pipeline))
