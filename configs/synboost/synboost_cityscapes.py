# SynBoost (Di Biase et al., CVPR 2021): void class and swapped instances. Half of a batch are images as they are, half
# have swapped instances (tools/dataset_converters/make_swapped_maps.py --recipe synboost); void pixels are anomalies in
# both.
_base_ = ['./synboost_void_cityscapes.py', '../_base_/methods/synboost.py']
swapped = dict(
    type='CompositeDataset',
    dataset_name='SwappedCityscapes',
    data_root='data/',
    data_prefix=dict(
        img_path='cityscapes/leftImg8bit/train', seg_map_path='swapped/cityscapes_synboost/train/labels'),
    maps_root='data/swapped/cityscapes_synboost/train',
    pipeline=_base_.train_pipeline)
train_dataloader = dict(sampler=dict(num_per_domain=2), dataset=dict(datasets=[_base_.void_class, swapped]))
model = _base_.method
val_evaluator = _base_.validation_metrics
