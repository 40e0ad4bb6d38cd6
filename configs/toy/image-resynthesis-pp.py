# Image Resynthesis++ (Blum et al., IJCV 2021) on the toy streets: the discrepancy network of Lis et al. (ICCV 2019),
# here light, with features that it learns, and the SPADE generator.
_base_ = './baseline.py'
kinds = ('synthesis', 'semantic')
train_pipeline = [
    dict(type='LoadImage'),
    dict(type='LoadAnomalyAnnotations'),
    dict(type='LoadDissimilarityMaps', kinds=kinds),
    dict(type='ResizeDissimilarityInputs', scale=_base_.work_size[::-1]),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDissimilarityInputs')
]
swapped = dict(
    type='CompositeDataset',
    dataset_name='ToySwapped',
    domain=0,
    data_root='data/toy/',
    data_prefix=dict(img_path='cityscapes/leftImg8bit/train', seg_map_path='swapped/labels'),
    maps_root='data/toy/swapped',
    map_kinds=kinds,
    pipeline=train_pipeline)
train_dataloader = dict(sampler=dict(num_per_domain=8), dataset=dict(datasets=[swapped]))
model = dict(
    decode_head=dict(
        uncertainty=False,
        spade=False,
        semantic_padding='reflect',
        loss_decode=dict(class_weight=(1.45693524, 19.18586532))),
    frozen=dict(uncertainty=False))
max_epochs = 12
param_scheduler = [
    dict(
        type='PolyLR', power=0.99, eta_min=0.0, begin=0, end=max_epochs, by_epoch=True, convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
