# The dissimilarity network on the toy streets, without MDAT and CACL.
_base_ = [
    '../_base_/models/dissimilarity_light.py', '../_base_/datasets/toy_streets.py', '../_base_/schedules/toy_6e.py',
    '../_base_/default_runtime.py'
]
default_hooks = dict(
    class_weights=dict(type='ClassWeightHook'),
    logger=dict(interval=20),
    checkpoint=dict(interval=2, max_keep_ckpts=1))
