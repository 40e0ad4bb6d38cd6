# Image Resynthesis++ (Blum et al., IJCV 2021) on the 256x256 Cityscapes: the discrepancy network of Lis et al. (ICCV
# 2019) on ESPNetv2's backbone, which stays frozen, and the light SPADE generator.
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
    dataset_name='Swapped256',
    domain=0,
    data_root='data/',
    data_prefix=dict(img_path='cityscapes256/leftImg8bit/train', seg_map_path='swapped/cityscapes256/train/labels'),
    maps_root='data/swapped/cityscapes256/train',
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
