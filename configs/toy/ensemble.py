# A deep ensemble of two on the toy benchmarks: the tested checkpoint, and one that was trained with another seed.
_base_ = './entropy.py'
model = dict(
    type='EnsembleAnomalySegmentor',
    members=[dict(config='configs/toy/segmenter.py', checkpoint='work_dirs/toy/segmenter-seed1/iter_250.pth')],
    score=None,
    scores=['predictive_entropy', 'expected_entropy', 'mutual_information'])
