# A departure: the void ids of SynBoost's public code are the anomalies of VoidClass, mostly the borders of images, in the
# place of those that are objects.
_base_ = '../mgcda_cityscapes.py'
void_class = dict(_base_.void_class, anomaly_ids='synboost')
train_dataloader = dict(dataset=dict(datasets=[void_class, _base_.anomaly_mix]))
