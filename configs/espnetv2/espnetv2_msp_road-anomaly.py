# A score of the segmenter's logits on RoadAnomaly, images resized to 1024x512 as the segmenter's authors do.
_base_ = ['../_base_/models/espnetv2.py', '../_base_/datasets/road_anomaly.py', '../_base_/default_runtime.py']
model = dict(type='AnomalySegmentor', score='msp')
test_pipeline = [
    dict(type='LoadImage'),
    dict(type='Resize', scale=(1024, 512), keep_ratio=False, backend='pillow'),
    dict(type='LoadAnomalyAnnotations'),
    dict(type='PackDissimilarityInputs')
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_cfg = dict(type='TestLoop')
