# AnomalyMix (section 3.2) by the recipe of PEBAL's public code, which the paper takes: all instances of one COCO image
# that shows nothing of Cityscapes' classes, together and at their own size, anywhere in the street. Pasted on the fly,
# without maps; make_anomaly_mix.py writes the composites to disk. PEBAL draws from a pool of 297 images; this takes all.
work_size = (256, 512)  # (H, W)
load = [dict(type='LoadImage'), dict(type='LoadAnomalyAnnotations')]
paste = dict(type='PasteObjects', num_objects=1, scale='own', flip_prob=0.0)
finish = [
    dict(type='ResizeDissimilarityInputs', scale=work_size[::-1]),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDissimilarityInputs')
]
objects = dict(
    data_root='data/coco/', ann_file='annotations/instances_train2017.json', img_path='train2017', unit='image')
anomaly_mix = dict(
    type='AnomalyMixDataset',
    data_root='data/cityscapes/',
    data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
    objects=objects,
    pipeline=load + [paste] + finish)
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DomainBalancedSampler', batch_size=8),
    dataset=dict(type='MultiDomainDataset', datasets=[anomaly_mix]))
