# Segmentors that train with outliers on Cityscapes, counted in iterations. A network, a schedule and a method join it.
_base_ = ['./datasets/cityscapes_outliers.py', './default_runtime.py']
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False), checkpoint=dict(by_epoch=False, interval=4000, max_keep_ckpts=2))
