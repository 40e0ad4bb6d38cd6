# OoD training, maximum entropy (Chan et al., ICCV 2021): cross-entropy to the uniform distribution on outliers.
method = dict(
    type='AnomalySegmentor',
    score='entropy',
    decode_head=dict(
        loss_decode=[dict(type='PixelCrossEntropyLoss', loss_weight=0.1),
                     dict(type='MaxEntropyLoss', loss_weight=0.9)]))
