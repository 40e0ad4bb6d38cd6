# Table 3 (c), MDAT: both classifiers, with dynamic label smoothing.
_base_ = './oda_fda.py'
default_hooks = dict(mdat=dict(dynamic_label=True))
