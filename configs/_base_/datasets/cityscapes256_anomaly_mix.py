# What make_anomaly_mix.py writes for the 256x256 Cityscapes: composites of 512x256, so that objects keep their shape. The
# recipe is that of anomaly_mix_paste.py; objects have their own size in a street of 1024 pixels, a quarter of it here.
train_pipeline = [
    dict(type='LoadImage'),
    dict(type='LoadAnomalyAnnotations'),
    dict(type='Resize', scale=(512, 256), keep_ratio=False),
    dict(type='PasteObjects', num_objects=1, scale='own', reference_height=1024, flip_prob=0.0)
]
train_dataloader = dict(
    dataset=dict(
        type='AnomalyMixDataset',
        ignore_ids=(0, 2, 3, 6, 9, 10, 14, 15, 16, 18, 29, 30),  # as in cityscapes256.py
        data_root='data/cityscapes256/',
        objects=dict(
            data_root='data/coco_objects', ann_file='annotations/instances.json', img_path='images', unit='image'),
        pipeline=train_pipeline))
