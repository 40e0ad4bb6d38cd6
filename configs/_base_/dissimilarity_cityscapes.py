# The dissimilarity network on VoidClass and AnomalyMix, without alignment: the baseline that MGCDA is built on.
_base_ = [
    './models/dissimilarity_vgg16.py', './datasets/mgcda_train.py', './datasets/anomaly_benchmarks.py',
    './schedules/mgcda_50e.py', './default_runtime.py'
]
# The network's margin, and SynBoost's mixture of its probability with the entropy, which costs nothing.
model = dict(scores=['logit_margin', 'SynBoostEnsemble'])
tta_pipeline = _base_.flip_pipeline
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=_base_.fs_lost_and_found)
val_evaluator = dict(type='AnomalyMetric')
# Class weights from the training labels, as in SynBoost (Di Biase et al., CVPR 2021), which trains this network.
default_hooks = dict(class_weights=dict(type='ClassWeightHook'))
