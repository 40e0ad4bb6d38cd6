# LostAndFound, all test frames.
_base_ = './benchmarks.py'
test_dataloader = dict(dataset=dict(_base_.lost_and_found_test, _delete_=True))
