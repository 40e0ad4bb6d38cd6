# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import re

import pytest

from mgcda.evaluation.published import read_published


def find(source: str, method: str):
    found = [result for result in read_published([source])[1] if result.method == method]
    assert len(found) == 1
    return found[0]


def test_every_entry_is_complete() -> None:
    sources, results = read_published()
    assert list(sources) == ['mgcda', 'synboost', 'pebal', 'later']
    assert {
        name: sum(result.source == name for result in results)
        for name in sources
    } == dict(
        mgcda=17, synboost=7, pebal=14, later=5)
    assert all(source.title and source.notes for source in sources.values())
    for result in results:
        assert result.values
        for metrics in result.values.values():
            assert set(metrics) in ({'AP', 'FPR95'}, {'mIoU'})
            assert all(re.fullmatch(r'\d{1,2}\.\d{1,2}', value) for value in metrics.values()), result


def test_numbers_of_the_paper() -> None:
    mgcda = find('mgcda', 'MGCDA')
    assert mgcda.values == dict(
        FS_LostAndFound_test=dict(AP='60.96', FPR95='6.66'),
        FS_Static_test=dict(AP='74.97', FPR95='17.71'),
        RoadAnomaly=dict(AP='50.35', FPR95='42.19'))
    assert (mgcda.retraining, mgcda.ood_data) == (False, True)
    # The gains that its text names.
    synboost, pebal = find('mgcda', 'SynBoost').values, find('mgcda', 'PEBAL').values

    def gain(data_set: str, metric: str, than: dict) -> float:
        return round(float(mgcda.values[data_set][metric]) - float(than[data_set][metric]), 2)

    assert gain('FS_LostAndFound_test', 'AP', pebal) == 16.79
    assert gain('RoadAnomaly', 'AP', synboost) == 12.14
    assert gain('RoadAnomaly', 'FPR95', synboost) == -22.56


def test_sources_agree_where_they_report_the_same() -> None:
    for source, methods in dict(synboost=('SynBoost', 'Dirichlet DeepLab'), pebal=('SynBoost', 'PEBAL', 'MSP')).items():
        for method in methods:
            ours, theirs = find('mgcda', method), find(source, method)
            for data_set in ('FS_LostAndFound_test', 'FS_Static_test'):
                assert ours.values[data_set] == theirs.values[data_set], (source, method)
            assert ours.retraining == theirs.retraining
    assert find('synboost', 'Bayesian DeepLab').values['FS_Static_test']['FPR95'] == '15.50'
    assert find('pebal', 'Bayesian DeepLab').values['FS_Static_test']['FPR95'] == '15.05'


def test_later_systems_name_their_papers() -> None:
    results = read_published(['later'])[1]
    assert [(result.values['RoadAnomaly']['AP'], result.values['RoadAnomaly']['FPR95'])
            for result in results] == [('71.6', '17.7'), ('79.7', '13.5'), ('85.4', '6.9'), ('90.2', '7.5'),
                                       ('93.9', '1.9')]
    assert all(result.paper and result.ood_data for result in results)


def test_unknown_sources_are_named() -> None:
    with pytest.raises(ValueError, match='no published results of nobody, but of mgcda, synboost, pebal, later'):
        read_published(['nobody'])


def test_the_data_file_is_packaged(repo_root) -> None:
    assert "'mgcda.evaluation': ['published_results.json']" in (repo_root / 'setup.py').read_text()
