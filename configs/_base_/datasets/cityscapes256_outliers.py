# Cityscapes squeezed to 256x256, at 512x256, with outliers among the classes, for segmentors that train with outliers:
# void pixels, and objects of COCO pasted during training. Tested on RoadAnomaly, and on the classes of the validation
# images.
_base_ = './benchmarks.py'
resize = dict(type='Resize', scale=(512, 256), keep_ratio=False, backend='pillow')
load = [dict(type='LoadImage'), dict(type='LoadAnomalyAnnotations'), resize]
pack = [dict(type='RandomFlip', prob=0.5), dict(type='PackDissimilarityInputs')]
streets = dict(targets='classes', data_root='data/cityscapes256/')
objects = dict(data_root='data/coco_objects', ann_file='annotations/instances.json', img_path='images')
void_class = dict(type='VoidClassDataset', dataset_name='VoidClass256', pipeline=load + pack, **streets)
# PEBAL's recipe, as in cityscapes256_anomaly_mix.py, and that of anomaly_mix_single_objects.py.
paste_image = dict(type='PasteObjects', num_objects=1, scale='own', reference_height=1024, flip_prob=0.0)
anomaly_mix = dict(
    type='AnomalyMixDataset',
    objects=dict(objects, unit='image'),
    pipeline=load + [paste_image] + pack,
    **streets)
paste_objects = dict(type='PasteObjects', num_objects=(1, 3), scale=(0.1, 0.5), position='anywhere')
single_objects = dict(
    type='AnomalyMixDataset',
    objects=dict(objects, min_area=1500),
    pipeline=load + [paste_objects] + pack,
    **streets)
# The same images without outliers, in the place of void_class.
plain = dict(void_class, dataset_name='Plain256', anomaly_ids=())
# Whole images whose pixels are all outliers, to stand beside the others in a batch; objects=dict(ann_file=...) makes
# outliers of unknown objects alone, and unit='image' in it leaves out images that show known ones.
negatives = dict(
    type='NegativeImageDataset',
    targets='classes',
    data_root='data/coco_objects',
    pipeline=[
        dict(type='LoadImage', color_type='color_ignore_orientation'),
        dict(type='LoadNegativeAnnotations'),
        dict(type='ResizeShortestEdge', scale=512, max_size=8192),
        dict(type='RandomCrop', crop_size=(256, 512)), *pack
    ])
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DomainBalancedSampler', batch_size=8, num_per_domain=4),
    dataset=dict(type='MultiDomainDataset', datasets=[void_class, anomaly_mix]))
test_pipeline = [
    dict(type='LoadImage'), resize,
    dict(type='LoadAnomalyAnnotations'),
    dict(type='PackDissimilarityInputs')
]
road_anomaly = dict(_base_.road_anomaly, pipeline=test_pipeline)
cityscapes = dict(_base_.cityscapes, data_root='data/cityscapes256/', pipeline=test_pipeline)
test_dataloader = dict(
    _base_.test_dataloader,
    num_workers=1,
    persistent_workers=False,
    dataset=dict(type='ConcatDataset', datasets=[road_anomaly, cityscapes]))
val_dataloader = test_dataloader
val_evaluator = _base_.test_evaluator
