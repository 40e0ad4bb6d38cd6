# LostAndFound, with and without the frames of known objects.
_base_ = './benchmarks.py'
test_dataloader = dict(dataset=dict(datasets=[_base_.lost_and_found_test, _base_.lost_and_found_no_known]))
