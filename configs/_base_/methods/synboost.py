# SynBoost (Di Biase et al., CVPR 2021): what leaves set in `model`, and what they validate by. The class weights are those
# of the authors' code for void class and swapped instances.
class_weight = (1.54843156, 8.03912212)
method = dict(
    decode_head=dict(loss_decode=dict(class_weight=class_weight)), scores=['logit_margin', 'SynBoostEnsemble'])
validation_metrics = [
    dict(type='AnomalyMetric'),
    dict(type='AnomalyCrossEntropyMetric', class_weight=class_weight, score='logit_margin')
]
