# What `make demo` runs on toy streets: MGCDA, the same network without MDAT and CACL, and the segmenter's entropy.
_tools = 'tools/dataset_converters'
_make_maps = f'{_tools}/make_maps.py configs/toy/baseline.py'
work_dir = 'work_dirs/toy'
steps = [
    dict(name='toy streets', command='demo/toy_streets.py data/toy'),
    [
        dict(name='segmenter', train='configs/toy/segmenter.py'),
        dict(name='generator', train='configs/toy/generator.py'),
        dict(
            name='composites',
            command=f'{_tools}/make_anomaly_mix.py configs/_base_/datasets/toy_anomaly_mix.py data/toy/anomaly_mix')
    ],
    [
        dict(name='maps of VoidClass',
             command=f'{_make_maps} data/toy/cityscapes/leftImg8bit/train data/toy/maps/cityscapes'),
        dict(name='maps of AnomalyMix',
             command=f'{_make_maps} data/toy/anomaly_mix/leftImg8bit/train data/toy/maps/anomaly_mix'),
        # Those of the test sets are for the pictures alone.
        dict(name='maps of RoadAnomaly',
             command=f'{_make_maps} data/toy/road_anomaly/frames data/toy/maps/road_anomaly --suffixes .jpg'),
        dict(name='maps of Fishyscapes',
             command=f'{_make_maps} data/toy/fishyscapes/original data/toy/maps/fishyscapes')
    ]
]
rows = [
    dict(name='entropy', config='configs/toy/entropy.py', checkpoint='work_dirs/toy/segmenter/iter_250.pth'),
    dict(name='baseline', config='configs/toy/baseline.py'),
    dict(name='MGCDA', config='configs/toy/mgcda.py')
]
metrics = ['AP', 'FPR95', 'AUROC']
data_sets = ['ToyRoadAnomaly', 'ToyFishyscapes']
keep_scores = True
