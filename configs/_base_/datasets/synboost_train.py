# The processed training data that SynBoost's authors publish, as it is, one domain, resized by their
# rule.
work_size = (256, 512)  # (H, W)
train_pipeline = [
    dict(type='LoadImage'),
    dict(type='LoadAnomalyAnnotations', resize=True),
    dict(type='LoadDissimilarityMaps', resize=True),
    dict(type='ResizeDissimilarityInputs', scale=work_size[::-1], resampling='nearest'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDissimilarityInputs')
]
synboost = dict(
    type='SynBoostDataset',
    data_root='data/synboost/train/',
    labels='labels_with_void_no_ego',
    pipeline=train_pipeline)
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DomainBalancedSampler', batch_size=8),
    dataset=dict(type='MultiDomainDataset', datasets=[synboost]))
