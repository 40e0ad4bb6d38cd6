# A departure: AnomalyMix by a recipe of our own, single objects of random size, whose composites are those of
# anomaly_mix_single_objects.py, in the place of PEBAL's.
_base_ = '../mgcda_cityscapes.py'
anomaly_mix = dict(
    data_root='data/anomaly_mix_single_objects/', maps_root='data/maps/anomaly_mix_single_objects/train')
train_dataloader = dict(dataset=dict(datasets=[_base_.void_class, dict(_base_.anomaly_mix, **anomaly_mix)]))
