# MGCDA plugged into PEBAL. All layers are trained, as there is no segmenter to start from; an energy above the middle of
# PEBAL's two margins counts as a predicted anomaly. Leaves add a backbone.
_base_ = ['../plugin_host.py', '../methods/pebal.py']
model = dict(_base_.method, taps=dict(score='energy', threshold=-9.0), train_only=_base_.cacl)
