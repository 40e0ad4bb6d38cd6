# SynBoost's network on the processed data that its authors publish (Di Biase et al., CVPR 2021), with their class
# weights; the schedule is MGCDA's, not theirs.
_base_ = [
    '../_base_/models/dissimilarity_vgg16.py', '../_base_/datasets/synboost_train.py',
    '../_base_/datasets/anomaly_benchmarks.py', '../_base_/schedules/mgcda_50e.py', '../_base_/default_runtime.py',
    '../_base_/methods/synboost.py'
]
model = dict(decode_head=dict(loss_decode=dict(class_weight=_base_.class_weight)), resampling='nearest')
train_cfg = dict(val_interval=50)
tta_pipeline = _base_.flip_pipeline
val_dataloader = _base_.test_dataloader
val_evaluator = dict(type='AnomalyMetric')
