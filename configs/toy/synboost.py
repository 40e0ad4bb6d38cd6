# SynBoost (Di Biase et al., CVPR 2021) on the toy streets: void class and swapped instances, a light network. The
# schedule and the best checkpoint follow the loss on the void pixels of the validation streets, not of a test set.
_base_ = ['./baseline.py', '../_base_/methods/synboost.py']
swapped = dict(
    type='CompositeDataset',
    dataset_name='ToySwapped',
    data_root='data/toy/',
    data_prefix=dict(img_path='cityscapes/leftImg8bit/train', seg_map_path='swapped_synboost/labels'),
    maps_root='data/toy/swapped_synboost',
    pipeline=_base_.train_pipeline)
train_dataloader = dict(dataset=dict(datasets=[_base_.void_class, swapped]))
model = _base_.method
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='VoidClassDataset',
        dataset_name='ToyVoidClass',
        data_root='data/toy/cityscapes',
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        test_mode=True,
        pipeline=_base_.test_pipeline))
val_evaluator = _base_.validation_metrics
max_epochs = 12
optim_wrapper = dict(optimizer=dict(betas=(0.5, 0.999)))
param_scheduler = [
    dict(type='ReduceOnPlateauLR', monitor='ToyVoidClass/cross_entropy', rule='less', factor=0.5, patience=2)
]
train_cfg = dict(max_epochs=max_epochs, val_interval=1)
default_hooks = dict(checkpoint=dict(save_best='ToyVoidClass/cross_entropy', rule='less'))
