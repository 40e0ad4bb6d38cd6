# The paper's ablation and the systems that it is compared with, on small real data: Cityscapes squeezed to 256x256, 198
# images of COCO, 20 of RoadAnomaly. Light networks at 128x256, for a CPU. docs/study.md.
_folder = 'configs/studies/cityscapes256'
_tools = 'tools/dataset_converters'
_segmenter = 'work_dirs/cityscapes256/segmenter/iter_300.pth'
work_dir = 'work_dirs/cityscapes256'
steps = [
    [dict(name='segmenter', train=f'{_folder}/segmenter.py'),
     dict(name='generator', train=f'{_folder}/generator.py')],
    dict(name='fitted scores', command=f'tools/fit_scores.py {_folder}/scores.py {_segmenter} --max-images 300'),
    dict(name='composites', command=f'{_tools}/make_anomaly_mix.py '
         'configs/_base_/datasets/cityscapes256_anomaly_mix.py data/anomaly_mix256'),
    [dict(name='maps of VoidClass', command=f'{_tools}/make_maps.py {_folder}/baseline.py '
          'data/cityscapes256/leftImg8bit/train data/maps/cityscapes256/train'),
     dict(name='maps of AnomalyMix', command=f'{_tools}/make_maps.py {_folder}/baseline.py '
          'data/anomaly_mix256/leftImg8bit/train data/maps/anomaly_mix256/train')]
]
rows = [
    dict(name='Scores', config=f'{_folder}/scores.py', checkpoint=_segmenter),
    dict(name='VoidClass', config=f'{_folder}/baseline_void-class.py'),
    dict(name='AnomalyMix', config=f'{_folder}/baseline_anomaly-mix.py'),
    dict(name='Baseline', config=f'{_folder}/baseline.py', seeds=[0, 1, 2]),
    dict(name='ODA', config=f'{_folder}/oda.py'),
    dict(name='ODA + FDA', config=f'{_folder}/oda_fda.py'),
    dict(name='MDAT', config=f'{_folder}/mdat.py'),
    dict(name='MDAT + PCL', config=f'{_folder}/mdat_pcl.py'),
    dict(name='MDAT + CPCL', config=f'{_folder}/mdat_cpcl.py'),
    dict(name='MGCDA', config=f'{_folder}/mgcda.py', seeds=[0, 1, 2])
]
metrics = ['AP', 'FPR95', 'AUROC']
