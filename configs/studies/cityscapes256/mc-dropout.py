# Monte Carlo dropout in the head of the segmenter, on RoadAnomaly, with its mIoU on Cityscapes.
_base_ = './scores.py'
model = dict(
    type='MCDropoutAnomalySegmentor',
    num_passes=8,
    decode_head=dict(dropout_ratio=0.1),
    scores=['predictive_entropy', 'expected_entropy', 'mutual_information'])
test_dataloader = dict(dataset=dict(datasets=[_base_.road_anomaly, _base_.cityscapes]))
fit_dataloader = None
