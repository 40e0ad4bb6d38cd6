# Section 4.4.1, Mix: the dissimilarity network on the 256x256 Cityscapes, without MDAT and CACL. A light one on the
# backbone of the frozen segmenter, which stays as it is: an iteration takes two thirds of the time.
_base_ = [
    '../../_base_/models/dissimilarity_light.py', '../../_base_/datasets/cityscapes256.py',
    '../../_base_/schedules/toy_6e.py', '../../_base_/default_runtime.py'
]
segmenter = dict(
    config='configs/studies/cityscapes256/segmenter.py', checkpoint='work_dirs/cityscapes256/segmenter/iter_300.pth')
model = dict(
    backbone=dict(
        _delete_=True,
        type='ESPNetv2',
        widen_factor=2.0,
        frozen_stages=3,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint=segmenter['checkpoint'], prefix='backbone.')),
    decode_head=dict(
        in_channels=(32, 128, 256, 512),
        feature_strides=(2, 4, 8, 16),
        fusion_channels=(24, 32, 48, 96),
        decoder_channels=(24, 32, 48, 64),
        spade_channels=24),
    frozen=dict(
        segmenter=segmenter,
        generator=dict(
            config='configs/studies/cityscapes256/generator.py',
            checkpoint='work_dirs/cityscapes256/generator/iter_800.pth'),
        segmenter_size=(256, 512)))
max_iters = 400
optim_wrapper = dict(optimizer=dict(lr=5e-4))
train_cfg = dict(_delete_=True, type='ResumableIterTrainLoop', max_iters=max_iters)
param_scheduler = [dict(type='PolyLR', power=0.99, eta_min=0.0, begin=0, end=max_iters, by_epoch=False)]
val_dataloader = val_cfg = val_evaluator = None
log_processor = dict(by_epoch=False)
default_hooks = dict(
    class_weights=dict(type='ClassWeightHook'),
    logger=dict(interval=20, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=100, max_keep_ckpts=1))
