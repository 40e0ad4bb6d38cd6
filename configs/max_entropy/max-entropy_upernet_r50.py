# Maximum entropy over the UPerNet of MMSegmentation's model zoo. The loss of its auxiliary head keeps four tenths of the
# weight of the cross-entropy.
_base_ = ['../_base_/tuned_upernet.py', '../_base_/trained/max_entropy.py']
model = dict(
    **_base_.method, auxiliary_head=dict(loss_decode=dict(loss_weight=0.04, reduction='all_pixels')))
load_from = _base_.segmenter_checkpoint
