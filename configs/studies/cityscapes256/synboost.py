# SynBoost (Di Biase et al., CVPR 2021) on the 256x256 Cityscapes: void class and swapped instances, a light network on
# ESPNetv2's backbone. The schedule and the best checkpoint follow the loss on the void pixels of some validation
# images, not of a test set.
_base_ = ['./baseline.py', '../../_base_/methods/synboost.py']
swapped = dict(
    type='CompositeDataset',
    dataset_name='Swapped256',
    data_root='data/',
    data_prefix=dict(
        img_path='cityscapes256/leftImg8bit/train', seg_map_path='swapped/cityscapes256_synboost/train/labels'),
    maps_root='data/swapped/cityscapes256_synboost/train',
    pipeline=_base_.train_pipeline)
train_dataloader = dict(dataset=dict(datasets=[_base_.void_class, swapped]))
model = _base_.method
val_dataloader = dict(
    _base_.test_dataloader,
    _delete_=True,
    dataset=dict(
        type='VoidClassDataset',
        ignore_ids=_base_.ignore_ids,
        dataset_name='VoidClass256',
        data_root='data/cityscapes256/',
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        indices=50,
        test_mode=True,
        pipeline=_base_.test_pipeline))
val_evaluator = _base_.validation_metrics
optim_wrapper = dict(optimizer=dict(betas=(0.5, 0.999)))
param_scheduler = [
    dict(type='ReduceOnPlateauLR', monitor='VoidClass256/cross_entropy', rule='less', factor=0.5, patience=2)
]
train_cfg = dict(val_interval=50)
val_cfg = dict(_delete_=True, type='ValLoop')
default_hooks = dict(checkpoint=dict(save_best='VoidClass256/cross_entropy', rule='less'))
