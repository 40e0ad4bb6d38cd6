# The toy streets with outliers among the classes, for segmentors that train with outliers: void pixels, and objects
# pasted during training. Tested on both toy benchmarks and on the classes of the validation streets.
_base_ = './toy_streets.py'
resize = dict(type='Resize', scale=(256, 128), keep_ratio=False)
load = [dict(type='LoadImage'), dict(type='LoadAnomalyAnnotations'), resize]
pack = [dict(type='RandomFlip', prob=0.5), dict(type='PackDissimilarityInputs')]
streets = dict(targets='classes', data_root='data/toy/cityscapes', maps_root=None)
objects = dict(data_root='data/toy/coco', ann_file='annotations/instances.json', img_path='images')
void_class = dict(type='VoidClassDataset', dataset_name='ToyVoidClass', pipeline=load + pack, **streets)
# PEBAL's recipe, as in toy_anomaly_mix.py, and that of anomaly_mix_single_objects.py.
paste_image = dict(type='PasteObjects', num_objects=1, scale='own', reference_height=192, flip_prob=0.0)
anomaly_mix = dict(
    type='AnomalyMixDataset',
    objects=dict(objects, unit='image', min_side=1),
    pipeline=load + [paste_image] + pack,
    **streets)
paste_objects = dict(type='PasteObjects', num_objects=(1, 3), scale=(0.1, 0.5), position='anywhere')
single_objects = dict(
    type='AnomalyMixDataset',
    objects=dict(objects, min_area=200),
    pipeline=load + [paste_objects] + pack,
    **streets)
# The same streets without outliers, in the place of void_class.
plain = dict(void_class, dataset_name='ToyPlain', anomaly_ids=())
# Whole images whose pixels are all outliers, to stand beside the others in a batch; objects=dict(ann_file=...) makes
# outliers of unknown objects alone, and unit='image' in it leaves out images that show known ones.
negatives = dict(
    type='NegativeImageDataset',
    targets='classes',
    dataset_name='ToyNegatives',
    data_root='data/toy/coco',
    pipeline=[
        dict(type='LoadImage', color_type='color_ignore_orientation'),
        dict(type='LoadNegativeAnnotations'),
        dict(type='ResizeShortestEdge', scale=256, max_size=8192),
        dict(type='RandomCrop', crop_size=(128, 256)), *pack
    ])
train_dataloader = dict(dataset=dict(datasets=[void_class, anomaly_mix]))
test_pipeline = [
    dict(type='LoadImage'), resize,
    dict(type='LoadAnomalyAnnotations'),
    dict(type='PackDissimilarityInputs')
]
test_dataloader = dict(
    dataset=dict(datasets=[
        dict(_base_.road_anomaly, pipeline=test_pipeline),
        dict(_base_.fishyscapes, pipeline=test_pipeline),
        dict(_base_.cityscapes, pipeline=test_pipeline)
    ]))
val_dataloader = test_dataloader
