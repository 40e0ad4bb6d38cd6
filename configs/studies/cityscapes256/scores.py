# All scores of the segmenter alone, on RoadAnomaly. tools/fit_scores.py fits those that have statistics of the training
# images. The classifier reads 10 channels only: ASH keeps four, and densities are of layers
# in front of that.
_base_ = [
    '../../_base_/models/espnetv2.py', '../../_base_/datasets/benchmarks.py', '../../_base_/datasets/fit_cityscapes.py',
    '../../_base_/default_runtime.py'
]
fitted = 'work_dirs/cityscapes256/fitted/'
embedding = 'decode_head.acts.0'  # 64 channels at stride 8
flow = dict(
    type='FlowNLL',
    layers=['decode_head.skips.1:input', 'decode_head.skips.0:input', 'decode_head.pools.0:input', embedding],
    fitted=fitted + 'nll.pth')
resize = dict(type='Resize', scale=(512, 256), keep_ratio=False, backend='pillow')
model = dict(
    type='AnomalySegmentor',
    scores=[
        'msp', 'entropy', 'margin', 'max_logit', 'energy', 'ODIN',
        dict(type='ASH', percentile=60, name='ASH'),
        dict(type='ReAct', fitted=fitted + 'react.pth', name='ReAct'),
        dict(type='SML', fitted=fitted + 'sml.pth', name='SML'),
        dict(type='Mahalanobis', layer=embedding, fitted=fitted + 'mahalanobis.pth', name='Mahalanobis'),
        dict(type='KNN', layer=embedding, fitted=fitted + 'knn.pth', name='kNN'),
        dict(flow, layers=[embedding], fitted=fitted + 'single-layer-nll.pth', name='single-layer NLL'),
        dict(flow, combine='minimum', name='minimum NLL'),
        dict(flow, combine='maximum', name='maximum NLL'),
        dict(flow, combine='logistic_regression', name='logistic regression')
    ])
test_pipeline = [
    dict(type='LoadImage'), resize,
    dict(type='LoadAnomalyAnnotations'),
    dict(type='PackDissimilarityInputs')
]
road_anomaly = dict(pipeline=test_pipeline)
cityscapes = dict(data_root='data/cityscapes256/', pipeline=test_pipeline)
test_dataloader = dict(num_workers=1, dataset=dict(datasets=[dict(_base_.road_anomaly, pipeline=test_pipeline)]))
test_cfg = dict(type='TestLoop')
fit_dataloader = dict(
    num_workers=1,
    dataset=dict(
        data_root='data/cityscapes256/',
        img_suffix='_leftImg8bit.jpg',
        pipeline=[_base_.fit_pipeline[0], resize, *_base_.fit_pipeline[1:]]))
