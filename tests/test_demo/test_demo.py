# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path

from mgcda.studies import Job, Row, Study


def test_a_fresh_demo_leaves_what_is_not_its_own(load_tool, tmp_path: Path) -> None:
    demo = load_tool('demo/demo.py')
    real, work, data = tmp_path / 'real', tmp_path / 'work', tmp_path / 'data'
    own = [
        'steps/toy-streets/log.txt', 'segmenter/iter_250.pth', 'mgcda/seed0/a.pth', 'mgcda/seed7/a.pth',
        'entropy/results.json', 'toy.md', 'toy.csv', 'sheet.png'
    ]
    others = ['variants/mgcda/iter_9.pth', 'segmenter-seed1/a.pth']
    work.symlink_to(real)  # a work directory on another disk
    for file in (*(real / name for name in own + others), data / 'maps/a.png', data / 'anomaly_mix/b.png',
                 data / 'swapped/c.png', data / 'toy_streets.json'):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    folders = ('steps/toy-streets', 'segmenter', 'steps/never-run', 'entropy', 'mgcda/seed0')
    streets, segmenter, never, entropy, mgcda = (Job(name, work / name, ()) for name in folders)
    rows = [Row('entropy', (entropy, )), Row('MGCDA', (mgcda, ))]
    demo.forget(Study('toy.py', work, [[streets], [segmenter, never]], rows, {}), data)
    left = [
        path.relative_to(root).as_posix() for root in (real, data) for path in sorted(root.rglob('*.*'))
        if path.is_file()
    ]
    assert left == sorted(others) + ['swapped/c.png', 'toy_streets.json']
