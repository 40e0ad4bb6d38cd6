# Cityscapes at its full size with outliers among the classes, for segmentors that train with outliers: void pixels, and
# objects of COCO pasted during training. Tested on the test sets of the paper, and on the classes of the
# validation images.
_base_ = './benchmarks.py'
crop_size = (512, 1024)  # (H, W)
load = [dict(type='LoadImage'), dict(type='LoadAnomalyAnnotations')]
crop = [
    dict(type='RandomResize', scale=(2048, 1024), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75)
]
pack = [dict(type='RandomFlip', prob=0.5), dict(type='PackDissimilarityInputs')]
streets = dict(targets='classes', data_root='data/cityscapes/')
objects = dict(data_root='data/coco/', ann_file='annotations/instances_train2017.json', img_path='train2017')
void_class = dict(type='VoidClassDataset', pipeline=load + crop + pack, **streets)
# PEBAL's recipe, as in anomaly_mix_paste.py: into the whole street, before it is scaled and cropped.
paste_image = dict(type='PasteObjects', num_objects=1, scale='own', flip_prob=0.0)
anomaly_mix = dict(
    type='AnomalyMixDataset',
    objects=dict(objects, unit='image'),
    pipeline=load + [paste_image] + crop + pack,
    **streets)
# That of anomaly_mix_single_objects.py, into the crops.
paste_objects = dict(type='PasteObjects', num_objects=(1, 3), scale=(0.1, 0.5), position='anywhere')
single_objects = dict(
    type='AnomalyMixDataset',
    objects=dict(objects, min_area=1500),
    pipeline=load + crop + [paste_objects] + pack,
    **streets)
# The same images without outliers, in the place of void_class.
plain = dict(void_class, dataset_name='Plain', anomaly_ids=())
# Whole images whose pixels are all outliers, to stand beside the others in a batch; objects=dict(ann_file=...) makes
# outliers of unknown objects alone, and unit='image' in it leaves out images that show known ones.
negatives = dict(
    type='NegativeImageDataset',
    targets='classes',
    data_root='data/coco/',
    data_prefix=dict(img_path='train2017'),
    pipeline=[
        dict(type='LoadImage', color_type='color_ignore_orientation'),
        dict(type='LoadNegativeAnnotations'),
        dict(type='ResizeShortestEdge', scale=crop_size[1], max_size=8192),
        dict(type='RandomCrop', crop_size=crop_size), *pack
    ])
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DomainBalancedSampler', batch_size=8, num_per_domain=4),
    dataset=dict(type='MultiDomainDataset', datasets=[void_class, anomaly_mix]))
test_dataloader = dict(
    dataset=dict(datasets=[_base_.fs_lost_and_found, _base_.fs_static, _base_.road_anomaly, _base_.cityscapes]))
val_dataloader = dict(_base_.test_dataloader, dataset=dict(type='ConcatDataset', **test_dataloader['dataset']))
val_evaluator = _base_.test_evaluator
