# The validation sets of Fishyscapes.
_base_ = './benchmarks.py'
test_dataloader = dict(dataset=dict(datasets=[_base_.fs_lost_and_found, _base_.fs_static]))
