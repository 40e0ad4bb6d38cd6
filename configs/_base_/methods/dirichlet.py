# Dirichlet DeepLab: a prior network (Malinin and Gales, NeurIPS 2018), with gradients that are clipped.
method = dict(
    type='AnomalySegmentor',
    scores=['differential_entropy', 'dirichlet_mutual_information'],
    decode_head=dict(loss_decode=[dict(type='DirichletPriorLoss', loss_weight=1e-3)]))
clip_grad = dict(max_norm=1.0)
