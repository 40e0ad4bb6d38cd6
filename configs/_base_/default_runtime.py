default_scope = 'mmseg'
custom_imports = dict(imports=['mgcda'], allow_failed_imports=False)
# Without a GPU, tools/train.py and tools/test.py start gloo instead of nccl.
env_cfg = dict(
    cudnn_benchmark=True, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='nccl'))
randomness = dict(seed=0)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends)
log_processor = dict(by_epoch=True)
log_level = 'INFO'
load_from = None
resume = False
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=True),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=True, interval=1, max_keep_ckpts=3, save_last=True),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='AnomalyVisualizationHook'))  # draws with tools/test.py --show-dir, or draw=True
custom_hooks = [dict(type='KeyedRandomHook'), dict(type='InvalidLossHook'), dict(type='CheckpointGuardHook')]
