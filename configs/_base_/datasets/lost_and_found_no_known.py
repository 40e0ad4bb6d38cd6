# LostAndFound, the test frames without known objects.
_base_ = './benchmarks.py'
test_dataloader = dict(dataset=dict(_base_.lost_and_found_no_known, _delete_=True))
