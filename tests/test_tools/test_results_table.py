# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import csv
import io
import json
import math
from pathlib import Path

import pytest

from mgcda.evaluation.results import read_results, write_results


@pytest.fixture
def table(load_tool, capsys):
    """Run the tool; what it prints."""
    main = load_tool('tools/analysis_tools/results_table.py').main

    def run(*arguments) -> str:
        capsys.readouterr()
        main([str(argument) for argument in arguments])
        return capsys.readouterr().out

    return run


@pytest.fixture
def files(tmp_path) -> list:
    """Results of two methods; the second was tested on one set of the two."""

    def data_set(**metrics) -> dict:
        return dict(num_images=1, num_normal=5, num_anomaly=5, metrics=metrics)

    write_results(
        tmp_path / 'ours/results.json',
        dict(
            protocol='fishyscapes',
            mode='streaming',
            data_sets=dict(
                RoadAnomaly=data_set(
                    AP=1 / 3,
                    AP_lower=0.32,
                    AP_upper=0.36,
                    FPR95=50.004,
                    FPR95_lower=50.004,
                    FPR95_upper=50.005,
                    F1=10.),
                FS_Static=data_set(AP=99.999, FPR95=math.nan, sIoU=3.25))))
    write_results(tmp_path / 'theirs.json',
                  dict(protocol='pebal', mode='exact', data_sets=dict(RoadAnomaly=data_set(AP=20., FPR95=1.))))
    return [tmp_path / 'ours/results.json', tmp_path / 'theirs.json']


def test_markdown(table, files) -> None:
    assert table(*files) == """\
| method | protocol, mode | RoadAnomaly AP / FPR95 | FS_Static AP / FPR95 |
|---|---|---|---|
| ours | fishyscapes, streaming | 0.33 ±0.02 / 50.00 | 100.00 / – |
| theirs | pebal, exact | 20.00 / 1.00 | – |

RoadAnomaly has 60 images, but 1 were used for ours, theirs: these results do not compare with others.

FS_Static has 30 images, but 1 were used for ours: these results do not compare with others.
"""
    assert table(*files, '--names', 'A', 'B', '--metrics', 'sIoU') == """\
| method | protocol, mode | FS_Static sIoU |
|---|---|---|
| A | fishyscapes, streaming | 3.25 |
| B | pebal, exact | – |

FS_Static has 30 images, but 1 were used for A: these results do not compare with others.
"""


def test_miou_is_a_column_where_there_is_any(table, files, tmp_path) -> None:
    content = read_results(files[1])
    content['segmentation'] = dict(
        Cityscapes=dict(num_images=500, num_pixels=9, metrics=dict(mIoU=78.254, mAcc=80.0), IoU=dict(road=78.254)))
    write_results(files[1], content)
    text = table(*files, '--data-sets', 'RoadAnomaly', 'Cityscapes')
    assert '| method | protocol, mode | RoadAnomaly AP / FPR95 | Cityscapes mIoU |' in text
    assert '| ours | fishyscapes, streaming | 0.33 ±0.02 / 50.00 | – |' in text
    assert '| theirs | pebal, exact | 20.00 / 1.00 | 78.25 |' in text and 'Cityscapes has 500 images' not in text
    text = table(*files, '--metrics', 'mIoU', 'mAcc', '--published', 'synboost')
    assert '| RT | OoD | Cityscapes mIoU / mAcc |' in text
    assert '| theirs | pebal, exact | – | – | 78.25 / 80.00 |' in text
    assert '| SynBoost [1] | – | no | – | 83.50 / – |' in text
    rows = json.loads(table(*files, '--format', 'json'))
    assert 'Cityscapes' not in rows[0]['values'] and rows[1]['values']['Cityscapes'] == dict(mIoU=78.254)


def test_csv_and_json(table, files, tmp_path) -> None:
    rows = list(csv.DictReader(io.StringIO(table(*files, '--format', 'csv', '--published', 'mgcda', 'later'))))
    assert len(rows) == 2 + 17 + 5
    assert float(rows[0]['RoadAnomaly/AP']) == 1 / 3 and rows[0]['quoted'] == 'no' and rows[0]['mode'] == 'streaming'
    assert rows[1]['FS_Static/AP'] == '' and rows[1]['protocol'] == 'pebal'
    msp, rba = rows[2], rows[-3]
    assert (msp['method'], msp['quoted'], msp['RoadAnomaly/AP'], msp['retraining']) == ('MSP', 'yes', '15.72', 'no')
    assert msp['source'].startswith('Quoted from Zhang et al.') and 'not comparable' in msp['source']
    assert rba['source'].startswith('Nayal et al.') and 'mask transformers or foundation models' in rba['source']

    assert table(*files, '--format', 'json', '--published', '--out', tmp_path / 'new/table.json') == ''
    rows = json.loads((tmp_path / 'new/table.json').read_text(), parse_constant=pytest.fail)
    assert rows[0]['values'] == dict(RoadAnomaly=dict(AP=1 / 3, FPR95=50.004), FS_Static=dict(AP=99.999, FPR95=None))
    assert rows[0]['source'] is None and not rows[0]['quoted']
    assert len(rows) == 2 + 17 + 7 + 14 + 5 and all(row['quoted'] and row['source'] for row in rows[2:])
    assert rows[2]['values']['RoadAnomaly'] == dict(AP=15.72, FPR95=71.38)


def test_published_results_are_marked_and_explained(table, files) -> None:
    text = table(*files, '--published', 'later', 'mgcda', '--data-sets', 'RoadAnomaly')
    assert '| MGCDA [1] | – | no | yes | 50.35 / 42.19 |' in text
    assert '| RbA [2] | – | – | yes | 85.4 / 6.9 |' in text
    assert '| ours | fishyscapes, streaming | – | – | 0.33 ±0.02 / 50.00 |' in text
    assert 'Bayesian' not in text  # not in the table on RoadAnomaly
    assert '\n\n[1] Quoted from Zhang et al.' in text and '\n\n[2] Quoted from later systems' in text
    assert 'use mask transformers or foundation models' in text and 'not comparable' in text


def test_the_table_of_the_readme_is_the_tools(table, repo_root: Path) -> None:
    lines = [line for line in table('--published', 'mgcda').splitlines() if line.startswith('|')]
    assert len(lines) == 2 + 17
    assert '\n'.join(lines) in (repo_root / 'README.md').read_text()


def test_other_columns_of_published_results(table) -> None:
    text = table('--published', 'synboost', '--metrics', 'mIoU', 'AP')
    assert 'FS_Web_Oct2020 AP | Cityscapes mIoU |' in text
    assert '| SynBoost | no | – | 43.22 | 72.59 | 61.31 | 83.50 |' in text


def test_wrong_arguments(table, files, tmp_path) -> None:
    with pytest.raises(ValueError, match='no results on Static, but on RoadAnomaly, FS_Static'):
        table(*files, '--data-sets', 'Static')
    with pytest.raises(ValueError, match='there is no IoU, but AP, FPR95, F1, sIoU'):
        table(*files, '--metrics', 'AP', 'IoU')
    with pytest.raises(FileNotFoundError, match='none.json does not exist'):
        table(tmp_path / 'none.json')
    for arguments in ([], [*files, '--names', 'A']):
        with pytest.raises(SystemExit):
            table(*arguments)


@pytest.fixture
def seeds(tmp_path) -> list:
    """Results of three seeds of one method, and of another method."""
    for name, ap in dict(a=10., b=13., c=16., other=12.).items():
        entry = dict(num_images=60, num_normal=5, num_anomaly=5, metrics=dict(AP=ap, AP_lower=ap, AP_upper=ap))
        write_results(tmp_path / f'{name}.json',
                      dict(protocol='fishyscapes', mode='streaming', data_sets=dict(RoadAnomaly=entry)))
    return [tmp_path / f'{name}.json' for name in ('a', 'b', 'c', 'other')]


def test_files_of_one_name_are_runs_of_one_method(table, seeds) -> None:
    names = ('--names', 'ours', 'ours', 'ours', 'other')
    assert table(*seeds, *names) == """\
| method | protocol, mode | RoadAnomaly AP |
|---|---|---|
| ours (3 runs) | fishyscapes, streaming | 13.00 ±3.00 |
| other | fishyscapes, streaming | 12.00 |

Of several runs: mean ± standard deviation.
"""
    rows = list(csv.DictReader(io.StringIO(table(*seeds, *names, '--format', 'csv'))))
    assert [(row['runs'], row['RoadAnomaly/AP'], row['RoadAnomaly/AP/std']) for row in rows] == [('3', '13.0', '3.0'),
                                                                                                 ('1', '12.0', '')]
    ours, other = json.loads(table(*seeds, *names, '--format', 'json'))
    assert (ours['runs'], ours['values'], ours['std']) == (3, dict(RoadAnomaly=dict(AP=13)),
                                                           dict(RoadAnomaly=dict(AP=3)))
    assert 'runs' not in other and 'std' not in other


def test_runs_of_one_name_must_be_alike(table, seeds) -> None:
    content = read_results(seeds[1])
    write_results(seeds[1], dict(content, protocol='smiyc'))
    with pytest.raises(ValueError, match='results named ours are not runs of one method: their protocols'):
        table(*seeds[:2], '--names', 'ours', 'ours')
