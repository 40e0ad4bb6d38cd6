# ODIN over the segmenter, on RoadAnomaly, with its mIoU on Cityscapes.
_base_ = './scores.py'
model = dict(type='ODINAnomalySegmentor', scores=None, temperature=1000.0, epsilon=0.0014)
test_dataloader = dict(dataset=dict(datasets=[_base_.road_anomaly, _base_.cityscapes]))
fit_dataloader = None
