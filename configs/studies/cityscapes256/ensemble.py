# A deep ensemble of two, the tested checkpoint and the public weights that it was trained from, on RoadAnomaly, with
# its mIoU on Cityscapes.
_base_ = './scores.py'
model = dict(
    type='EnsembleAnomalySegmentor',
    members=[
        dict(
            config='configs/espnetv2/espnetv2_cityscapes-1024x512.py', checkpoint='checkpoints/espnetv2_cityscapes.pth')
    ],
    scores=['predictive_entropy', 'expected_entropy', 'mutual_information'])
test_dataloader = dict(dataset=dict(datasets=[_base_.road_anomaly, _base_.cityscapes]))
fit_dataloader = None
