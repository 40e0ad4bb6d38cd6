# The paper's ablation at its own size, after steps 1 to 3 of the README: data, generator, composites and maps.
_ablation = 'configs/ablation'
work_dir = 'work_dirs/cityscapes'
seeds = [0, 1, 2]
rows = [
    dict(name='VoidClass', config=f'{_ablation}/baseline_void-class.py'),
    dict(name='AnomalyMix', config=f'{_ablation}/baseline_anomaly-mix.py'),
    dict(name='Baseline', config=f'{_ablation}/baseline_mix.py'),
    dict(name='ODA', config=f'{_ablation}/oda.py'),
    dict(name='ODA + FDA', config=f'{_ablation}/oda_fda.py'),
    dict(name='MDAT', config=f'{_ablation}/mdat.py'),
    dict(name='MDAT + PCL', config=f'{_ablation}/mdat_pcl.py'),
    dict(name='MDAT + CPCL', config=f'{_ablation}/mdat_cpcl.py'),
    dict(name='MGCDA', config='configs/mgcda_cityscapes.py')
]
metrics = ['AP', 'FPR95', 'AUROC']
