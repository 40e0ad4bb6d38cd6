# DenseHybrid (Grcic et al., ECCV 2022): unnormalised density and data-set posterior.
method = dict(
    type='AnomalySegmentor',
    score='dense_hybrid',
    outlier_head=dict(num_logits=2, norm_cfg=dict(type='BN')),
    decode_head=dict(loss_decode=[dict(type='DenseHybridLoss')]))
