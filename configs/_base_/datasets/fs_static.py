# Fishyscapes Static (validation) alone.
_base_ = './benchmarks.py'
test_dataloader = dict(dataset=dict(_base_.fs_static, _delete_=True))
