# SynBoost (Di Biase et al., CVPR 2021) trained on the void class alone. As in the authors' code, the schedule follows
# the loss on Fishyscapes Static, and the best checkpoint is that of the lowest loss on Fishyscapes LostAndFound. The
# scores are the network's margin, and its probability with a quarter of entropy.
_base_ = [
    '../_base_/models/dissimilarity_vgg16.py', '../_base_/datasets/mgcda_train.py',
    '../_base_/datasets/anomaly_benchmarks.py', '../_base_/schedules/synboost_50e.py', '../_base_/default_runtime.py'
]
# By their rule, 1 / ln(1.02 + share), of the 1.82 % of the labelled pixels that are static or dynamic.
void_class_weight = (1.441, 26.67)
# Their rule of resizing, too: the nearest pixel for image, labels and maps alike.
train_pipeline = [
    dict(step, resampling='nearest') if step['type'] == 'ResizeDissimilarityInputs' else step
    for step in _base_.train_pipeline
]
void_class = dict(_base_.void_class, pipeline=train_pipeline)
model = dict(
    decode_head=dict(loss_decode=dict(class_weight=void_class_weight)),
    scores=['logit_margin', 'SynBoostEnsemble'],
    resampling='nearest')
train_dataloader = dict(
    batch_size=4,
    sampler=dict(batch_size=4, num_per_domain=4),
    dataset=dict(datasets=[void_class]))
tta_pipeline = _base_.flip_pipeline
val_dataloader = dict(
    _base_.test_dataloader,
    dataset=dict(type='ConcatDataset', datasets=[_base_.fs_lost_and_found, _base_.fs_static]))
val_evaluator = [
    dict(type='AnomalyMetric'),
    dict(type='AnomalyCrossEntropyMetric', class_weight=void_class_weight, score='logit_margin')
]
default_hooks = dict(checkpoint=dict(save_best='FS_LostAndFound/cross_entropy', rule='less'))
