# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from mgcda.evaluation import PixelCurve
from mgcda.evaluation.results import read_results, write_results


@pytest.fixture(scope='module')
def files(tmp_path_factory) -> list:
    """Results of two methods, the second of which tells the pixels apart without an error."""
    folder, rng = tmp_path_factory.mktemp('results'), np.random.default_rng(0)
    labels = (rng.random(5000) < 0.1).astype(np.uint8)
    for name, margin in (('good', 1.5), ('perfect', 100)):
        curve = PixelCurve('exact')
        curve.update(rng.normal(size=labels.size) + margin * labels, labels)
        data_set = dict(
            num_images=1,
            num_normal=curve.num_normal,
            num_anomaly=curve.num_anomaly,
            metrics=curve.compute(),
            curve=curve.curve())
        without = {key: value for key, value in data_set.items() if key != 'curve'}
        write_results(
            folder / name / 'results.json',
            dict(protocol='fishyscapes', mode='exact', data_sets=dict(RoadAnomaly=data_set, FS_Static=without)))
    return [folder / 'good/results.json', folder / 'perfect/results.json']


@pytest.fixture
def tool(load_tool):
    return load_tool('tools/analysis_tools/plot_curves.py')


def entries_of(tool, files) -> list:
    return [tool.entry_of(read_results(path), 'RoadAnomaly', str(path)) for path in files]


def run(tool, *arguments) -> None:
    tool.main([str(argument) for argument in arguments])


@pytest.mark.parametrize('suffix, signature', [('.png', b'\x89PNG'), ('.pdf', b'%PDF'), ('.svg', b'<?xml')])
def test_pictures_are_written(tool, files, tmp_path, suffix, signature) -> None:
    out = tmp_path / f'new/curves{suffix}'
    run(tool, *files, '--dataset', 'RoadAnomaly', '--out', out)
    assert out.read_bytes().startswith(signature)
    if suffix == '.png':
        with Image.open(out) as image:
            assert image.width == 1800 and len(image.convert('RGB').getcolors(1 << 20)) > 50
    if suffix == '.svg':
        text = out.read_text()
        assert 'good (AP ' in text and 'perfect (AP 100.0, AUROC 100.0, FPR95 0.0)' in text and 'RoadAnomaly' in text
        run(tool, *files, '--dataset', 'RoadAnomaly', '--out', out, '--names', 'A', 'B', '--log')
        assert 'A (AP ' in out.read_text()


def test_curves_are_those_of_the_files(tool, files) -> None:
    entries = entries_of(tool, files)
    figure = tool.draw(entries, ['good', 'perfect'], 'RoadAnomaly', log=False)
    left, right = figure.axes
    metrics = entries[0]['metrics']
    recall, precision = left.lines[0].get_data()
    # The area under the drawn steps is AP, that under the ROC AUROC, both but for the sampling of the points.
    assert abs(100 * np.sum(np.diff(recall) * precision[1:]) - metrics['AP']) < 0.5
    fpr, tpr = right.lines[0].get_data()
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert abs(100 * np.trapezoid(tpr, fpr) - metrics['AUROC']) < 0.1
    assert right.lines[1].get_data() == ([metrics['FPR95'] / 100], [0.95])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        f'good (AP {metrics["AP"]:.1f}, AUROC {metrics["AUROC"]:.1f}, FPR95 {metrics["FPR95"]:.1f})',
        'perfect (AP 100.0, AUROC 100.0, FPR95 0.0)'
    ]
    assert figure.legends[0].legend_handles[0].get_color() == left.lines[0].get_color()
    assert left.lines[0].get_color() == right.lines[0].get_color() != left.lines[1].get_color()


def test_what_differs_is_said(tool, files, tmp_path, capsys) -> None:
    content = read_results(files[0])
    content['protocol'] = 'pebal'
    content['data_sets']['RoadAnomaly'].update(num_images=60, num_normal=7)
    write_results(tmp_path / 'other.json', content)
    out = tmp_path / 'a.svg'
    run(tool, *files, tmp_path / 'other.json', '--dataset', 'RoadAnomaly', '--out', out)
    assert 'good, fishyscapes (AP ' in out.read_text() and 'other, pebal (AP ' in out.read_text()
    printed = capsys.readouterr().out
    assert 'RoadAnomaly has 60 images, but 1 were used for good, perfect: these results do not compare' in printed
    assert 'of other images or labels: good ' in printed and 'other 7 normal and' in printed
    (tmp_path / 'good').mkdir()
    write_results(tmp_path / 'good/results.json', content)
    with pytest.raises(ValueError, match='several of the results are named good: tell them apart with --names'):
        run(tool, *files, tmp_path / 'good/results.json', '--dataset', 'RoadAnomaly', '--out', out)
    assert list(tmp_path.glob('.*')) == []


def test_the_logarithmic_scale_shows_the_low_rates(tool, files) -> None:
    entries = entries_of(tool, files)
    right = tool.draw(entries, ['good', 'perfect'], 'RoadAnomaly', log=True).axes[1]
    assert right.get_xscale() == 'log' and right.get_xlim()[1] == 1
    assert right.get_xlim()[0] in (1e-4, 1e-3, 1e-2)
    assert all((line.get_xdata() > 0).all() for line in (right.lines[0], right.lines[2]))


@pytest.mark.parametrize('log', [False, True])
@pytest.mark.parametrize('names', [['mgcda_r50_' * 4 + 'cityscapes', 'a name of several words ' * 9], list('abc') * 6])
def test_long_and_many_names_leave_room_for_the_curves(tool, files, names, log) -> None:
    entries = (entries_of(tool, files) * len(names))[:len(names)]
    with plt.rc_context(tool.STYLE):
        figure = tool.draw(entries, names, 'RoadAnomaly', log)
        figure.draw_without_rendering()
        legend = figure.legends[0].get_window_extent()
        lowest = min(axes.get_tightbbox().y0 for axes in figure.axes)
    assert figure.bbox.x0 <= legend.x0 and legend.x1 <= figure.bbox.x1 and figure.bbox.y0 <= legend.y0
    # But for the padding of the legend.
    assert legend.y1 - 5 <= lowest and all(axes.bbox.width > 0.3 * figure.bbox.width for axes in figure.axes)


def test_many_methods_differ_in_colour_or_line(tool, files) -> None:
    entries = entries_of(tool, files[:1]) * 20
    left = tool.draw(entries, [str(i) for i in range(20)], 'RoadAnomaly', log=False).axes[0]
    assert len({(line.get_color(), line.get_linestyle()) for line in left.lines}) == 20


def test_wrong_arguments(tool, files, tmp_path) -> None:
    out = tmp_path / 'a.png'
    with pytest.raises(ValueError, match='good has no results on Static, but on RoadAnomaly, FS_Static'):
        run(tool, *files, '--dataset', 'Static', '--out', out)
    with pytest.raises(ValueError, match='good has no curve of FS_Static'):
        run(tool, *files, '--dataset', 'FS_Static', '--out', out)
    for options in (['--out', tmp_path / 'a.bmp'], ['--out', out, '--names', 'A']):
        with pytest.raises(SystemExit):
            run(tool, *files, '--dataset', 'RoadAnomaly', *options)
    assert not Path(out).exists()
