# Table 3 (a), ODA: a domain classifier on the output, hard domain labels.
_base_ = './baseline.py'
default_hooks = dict(
    mdat=dict(
        type='MDATHook',
        output_classifier=dict(type='DomainClassifier', in_channels=1, channels=(8, 16, 32, 64)),
        optimizer=dict(type='Adam', lr=5e-4),  # the rate of the network
        dynamic_label=False))
