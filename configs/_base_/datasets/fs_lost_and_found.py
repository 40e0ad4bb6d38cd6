# Fishyscapes LostAndFound (validation) alone.
_base_ = './benchmarks.py'
test_dataloader = dict(dataset=dict(_base_.fs_lost_and_found, _delete_=True))
