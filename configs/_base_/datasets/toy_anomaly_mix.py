# What make_anomaly_mix.py writes for the toy streets, by the recipe of anomaly_mix_paste.py. The object images are smaller
# than COCO's; in streets of 128 pixels, two thirds of their size leaves as many anomalous pixels as COCO's in Cityscapes, 7 %.
data_root = 'data/toy/'
train_pipeline = [
    dict(type='LoadImage'),
    dict(type='LoadAnomalyAnnotations'),
    dict(type='PasteObjects', num_objects=1, scale='own', reference_height=192, flip_prob=0.0)
]
train_dataloader = dict(
    dataset=dict(
        type='AnomalyMixDataset',
        data_root=data_root + 'cityscapes',
        objects=dict(
            data_root=data_root + 'coco',
            ann_file='annotations/instances.json',
            img_path='images',
            unit='image',
            min_side=1),
        pipeline=train_pipeline))
