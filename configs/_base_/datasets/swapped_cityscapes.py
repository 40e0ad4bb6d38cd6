# Cityscapes with swapped classes (tools/dataset_converters/make_swapped_maps.py): crops of 384x768 out of 512x1024, 2 a
# batch, as Lis et al. (ICCV 2019). A departure: all pixels without a train id are ignored, not only those outside the
# region of interest.
kinds = ('synthesis', 'semantic')
work_size = (512, 1024)  # (H, W)
crop_size = (384, 768)
train_pipeline = [
    dict(type='LoadImage'),
    dict(type='LoadAnomalyAnnotations'),
    dict(type='LoadDissimilarityMaps', kinds=kinds),
    dict(type='ResizeDissimilarityInputs', scale=work_size[::-1]),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDissimilarityInputs')
]
swapped = dict(
    type='CompositeDataset',
    dataset_name='SwappedCityscapes',
    domain=0,
    data_root='data/',
    data_prefix=dict(img_path='cityscapes/leftImg8bit/train', seg_map_path='swapped/cityscapes/train/labels'),
    maps_root='data/swapped/cityscapes/train',
    map_kinds=kinds,
    pipeline=train_pipeline)
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DomainBalancedSampler', batch_size=2),
    dataset=dict(type='MultiDomainDataset', datasets=[swapped]))
