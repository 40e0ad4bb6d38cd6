# Section 4.4.1, AnomalyMix: one domain, eight samples a batch.
_base_ = './baseline.py'
train_dataloader = dict(sampler=dict(num_per_domain=8), dataset=dict(datasets=[_base_.anomaly_mix]))
