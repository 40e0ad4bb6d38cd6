# MDAT and CACL as MGCDA has them (section 4.2), for a segmentor that trains with outliers in both domains. Leaves add what
# depends on the host: `in_channels` of the feature classifier and of the projector, and `model.taps`, whose score is the
# host's anomaly map. Without MDAT, `default_hooks.mdat=None`; without CACL, `model.train_only=None`.
mdat = dict(
    type='MDATHook',
    feature_weight=0.04,
    output_weight=0.06,
    feature_classifier=dict(type='DomainClassifier'),
    output_classifier=dict(type='DomainClassifier', in_channels=1, channels=(32, 64, 128, 256)),
    optimizer=dict(type='Adam', lr=1e-4))
cacl = dict(
    projector=dict(type='Projector', channels=(64, 128)), contrast=dict(type='CACLLoss', loss_weight=0.1))
