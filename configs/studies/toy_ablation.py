# Which part of MGCDA does what on the toy streets: the steps of toy.py, and five seeds of the network without alignment, with
# CACL, with MDAT, and with both. docs/study.md.
_base_ = './toy.py'
seeds = [0, 1, 2, 3, 4]
rows = [
    dict(name='baseline', config='configs/toy/baseline.py'),
    dict(name='CACL', config='configs/toy/mgcda.py', options={'default_hooks.mdat': None}),
    dict(name='MDAT', config='configs/toy/mgcda.py', options={'model.train_only': None}),
    dict(name='MGCDA', config='configs/toy/mgcda.py')
]
keep_scores = False
