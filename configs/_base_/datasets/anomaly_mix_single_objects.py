# A recipe of our own for AnomalyMix: one to three single objects of random size, also from images that show known classes.
_base_ = './anomaly_mix_paste.py'
paste = dict(type='PasteObjects', num_objects=(1, 3), scale=(0.1, 0.5), position='anywhere')
anomaly_mix = dict(
    _base_.anomaly_mix,
    objects=dict(_base_.objects, unit='instance', min_area=1500),
    pipeline=[*_base_.load, paste, *_base_.finish])
train_dataloader = dict(dataset=dict(datasets=[anomaly_mix]))
