# ODIN over the frozen segmenter, on the toy benchmarks.
_base_ = './entropy.py'
model = dict(type='ODINAnomalySegmentor', score=None, temperature=1000.0, epsilon=0.0014)
