# Outlier Head (Bevandic et al., GCPR 2019): two logits of inlier and outlier on the features of the classes.
method = dict(
    type='AnomalySegmentor',
    score='outlier_posterior',
    outlier_head=dict(num_logits=2, norm_cfg=dict(type='BN')),
    decode_head=dict(loss_decode=[dict(type='OutlierHeadLoss')]))
