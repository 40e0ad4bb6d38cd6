# Table 3 (a), ODA: a domain classifier on the output, hard domain labels.
_base_ = './baseline_mix.py'
default_hooks = dict(
    mdat=dict(
        type='MDATHook',
        output_classifier=dict(type='DomainClassifier', in_channels=1, channels=(32, 64, 128, 256)),
        optimizer=dict(type='Adam', lr=1e-4),
        dynamic_label=False))
