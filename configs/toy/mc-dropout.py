# Monte Carlo dropout in the head of the frozen segmenter, on the toy benchmarks.
_base_ = './entropy.py'
model = dict(
    type='MCDropoutAnomalySegmentor',
    num_passes=8,
    score=None,
    scores=['predictive_entropy', 'expected_entropy', 'mutual_information'])
