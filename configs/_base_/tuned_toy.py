# The segmenter of the toy streets, tuned on void pixels and on pasted objects. Leaves add a method.
_base_ = ['./models/segmenter_toy.py', './datasets/toy_outliers.py', './schedules/tune_200.py']
model = dict(data_preprocessor=dict(size=(128, 256)))
load_from = 'work_dirs/toy/segmenter/iter_250.pth'
