# The small study with the papers' labels, which ignore the ego vehicle, and the encoder trained along. The steps of
# cityscapes256.py, and other labels of the same composites. docs/study.md.
_base_ = './cityscapes256.py'
_folder = _base_._folder
_void_class = {'model.backbone.frozen_stages': -1, 'train_dataloader.dataset.datasets.0.ignore_ids': None}
_anomaly_mix = {
    'model.backbone.frozen_stages': -1,
    'train_dataloader.dataset.datasets.0.data_root': 'data/anomaly_mix256_ego/'
}
_mix = {**_void_class, 'train_dataloader.dataset.datasets.1.data_root': 'data/anomaly_mix256_ego/'}
steps = [
    *_base_.steps,
    dict(name='composites, ego vehicle ignored', command='tools/dataset_converters/make_anomaly_mix.py '
         'configs/_base_/datasets/cityscapes256_anomaly_mix.py data/anomaly_mix256_ego '
         '--cfg-options train_dataloader.dataset.ignore_ids=None')
]
rows = [
    dict(name='VoidClass, ego ignored', config=f'{_folder}/baseline_void-class.py', options=_void_class),
    dict(name='AnomalyMix, ego ignored', config=f'{_folder}/baseline_anomaly-mix.py', options=_anomaly_mix),
    dict(name='Baseline, ego ignored', config=f'{_folder}/baseline.py', options=_mix, seeds=[0, 1, 2]),
    dict(name='ODA, ego ignored', config=f'{_folder}/oda.py', options=_mix),
    dict(name='ODA + FDA, ego ignored', config=f'{_folder}/oda_fda.py', options=_mix),
    dict(name='MDAT, ego ignored', config=f'{_folder}/mdat.py', options=_mix, seeds=[0, 1, 2]),
    dict(name='CACL, ego ignored', config=f'{_folder}/cacl.py', options=_mix, seeds=[0, 1, 2]),
    dict(name='MDAT + PCL, ego ignored', config=f'{_folder}/mdat_pcl.py', options=_mix),
    dict(name='MDAT + CPCL, ego ignored', config=f'{_folder}/mdat_cpcl.py', options=_mix),
    dict(name='MGCDA, ego ignored', config=f'{_folder}/mgcda.py', options=_mix, seeds=[0, 1, 2])
]
metrics = ['AP', 'FPR95', 'AUROC']
