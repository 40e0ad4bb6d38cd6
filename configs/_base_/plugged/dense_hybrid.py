# MGCDA plugged into DenseHybrid. Leaves add a backbone.
_base_ = ['../plugin_host.py', '../methods/dense_hybrid.py']
model = dict(
    _base_.method,
    outlier_head=dict(_base_.method.outlier_head, norm_cfg=_base_.norm_cfg),
    taps=dict(score='outlier_posterior', threshold=-2.0),
    train_only=_base_.cacl)
