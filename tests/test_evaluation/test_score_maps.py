# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import cv2
import h5py
import numpy as np
import pytest
from PIL import Image

from mgcda.evaluation.score_maps import find_scores, read_scores

SCORES = np.random.default_rng(0).normal(size=(5, 7)) * 100


def write_hdf5(path, **arrays):
    with h5py.File(path, 'w') as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression=9)


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
@pytest.mark.parametrize('suffix', ['.npy', '.npz', '.hdf5', '.h5'])
def test_arrays(tmp_path, dtype, suffix):
    path, scores = tmp_path / f'a{suffix}', SCORES.astype(dtype)
    if suffix == '.npy':
        np.save(path, scores)
    elif suffix == '.npz':
        np.savez_compressed(path, scores=scores)
    else:
        write_hdf5(path, value=scores, other=np.zeros(3))
    read = read_scores(path)
    assert read.dtype == (np.float64 if dtype == np.float64 else np.float32)
    np.testing.assert_array_equal(read, scores.astype(read.dtype))
    np.testing.assert_array_equal(read_scores(path, scale=4), scores.astype(read.dtype) / 4)


@pytest.mark.parametrize('shape', [(1, 5, 7), (5, 7, 1), (1, 1, 5, 7), (1, 5, 1, 7)])
def test_dimensions_of_length_one_are_dropped(tmp_path, shape):
    np.save(tmp_path / 'a.npy', SCORES.reshape(shape))
    np.testing.assert_array_equal(read_scores(tmp_path / 'a.npy'), SCORES)


def test_a_row_of_pixels_is_a_map(tmp_path):
    np.save(tmp_path / 'a.npy', SCORES[:1])
    assert read_scores(tmp_path / 'a.npy').shape == (1, 7)


def test_named_entries(tmp_path):
    np.savez(tmp_path / 'a.npz', anomaly=SCORES, pred=np.zeros((5, 7)))
    np.testing.assert_array_equal(read_scores(tmp_path / 'a.npz', key='anomaly'), SCORES)
    write_hdf5(tmp_path / 'a.hdf5', **{'out/score': SCORES, 'value': np.zeros((5, 7))})
    np.testing.assert_array_equal(read_scores(tmp_path / 'a.hdf5', key='/out/score'), SCORES)
    assert not read_scores(tmp_path / 'a.hdf5').any()
    write_hdf5(tmp_path / 'b.hdf5', **{'out/score': SCORES})
    np.testing.assert_array_equal(read_scores(tmp_path / 'b.hdf5'), SCORES)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32, np.float64])
def test_tiff(tmp_path, dtype):
    scores = np.abs(SCORES).astype(dtype)
    assert cv2.imwrite(str(tmp_path / 'a.tiff'), scores)
    np.testing.assert_array_equal(read_scores(tmp_path / 'a.tiff'), scores)


@pytest.mark.parametrize('dtype, top', [(np.uint8, 255), (np.uint16, 65535)])
def test_png(tmp_path, dtype, top):
    stored = np.resize(np.arange(0, top + 1), (256, (top + 1) // 256)).astype(dtype)
    assert cv2.imwrite(str(tmp_path / 'a.png'), stored)
    np.testing.assert_array_equal(read_scores(tmp_path / 'a.png'), stored.astype(np.float32))
    scaled = read_scores(tmp_path / 'a.png', scale=top)
    assert scaled.min() == 0 and scaled.max() == 1 and scaled.dtype == np.float32
    assert (np.diff(scaled.reshape(-1)) > 0).all()  # no two stored values become one


def test_wide_integers_keep_their_order(tmp_path):
    np.save(tmp_path / 'a.npy', np.array([[2**24, 2**24 + 1]]))
    first, second = read_scores(tmp_path / 'a.npy')[0]
    assert first < second


def damaged_files(folder):
    """Files that are cut off, or of another kind than their names say."""
    np.save(folder / 'a.npy', SCORES)
    np.savez_compressed(folder / 'a.npz', SCORES)
    write_hdf5(folder / 'a.hdf5', value=SCORES)
    cv2.imwrite(str(folder / 'a.tiff'), SCORES)
    cv2.imwrite(str(folder / 'a.png'), np.random.default_rng(0).integers(0, 256, (50, 70), np.uint8))
    for path in list(folder.iterdir()):
        content = path.read_bytes()
        path.write_bytes(content[:len(content) // 2])
        path.with_stem('text').write_text('no scores')
        path.with_stem('empty').write_bytes(b'')
    np.save(folder / 'pickle.npy', np.array([dict()], dtype=object))
    cv2.imwritemulti(str(folder / 'pages.tiff'), [SCORES.astype(np.float32)] * 2)
    return sorted(folder.iterdir())


def test_damaged_files_are_named(tmp_path):
    paths = damaged_files(tmp_path)
    assert len(paths) == 17
    for path in paths:
        with pytest.raises(ValueError, match='is damaged or no') as error:
            read_scores(path)
        assert str(path) in str(error.value)


def test_files_of_wrong_bytes_are_named(tmp_path):
    """Whatever the libraries make of them: a map, or an error that names the file."""
    rng, messages = np.random.default_rng(0), []
    np.savez_compressed(tmp_path / 'a.npz', SCORES)
    np.save(tmp_path / 'a.npy', SCORES)
    write_hdf5(tmp_path / 'a.hdf5', value=SCORES)
    for path in sorted(tmp_path.iterdir()):
        content = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(150):
            wrong = content.copy()
            wrong[rng.integers(0, len(content), 3)] = rng.integers(0, 256, 3)
            path.write_bytes(wrong.tobytes())
            try:
                read_scores(path)
            except ValueError as error:
                messages.append(str(error))
    assert len(messages) > 100 and all(str(tmp_path) in message for message in messages)


@pytest.mark.parametrize('array, message', [
    (np.zeros((2, 5, 7)), r'has the shape \(2, 5, 7\)'),
    (np.zeros(7), r'has the shape \(7,\)'),
    (np.zeros((1, 1, 7)), r'has the shape \(1, 1, 7\)'),
    (np.zeros((0, 7)), r'has the shape \(0, 7\)'),
    (np.zeros((5, 7), complex), 'holds complex128'),
    (np.where(np.eye(5) == 1, np.nan, 0), 'holds NaN at 5 pixels'),
])
def test_what_is_no_score_map_is_refused(tmp_path, array, message):
    np.save(tmp_path / 'a.npy', array)
    with pytest.raises(ValueError, match=message) as error:
        read_scores(tmp_path / 'a.npy')
    assert str(tmp_path / 'a.npy') in str(error.value)


def test_colours_are_no_scores(tmp_path):
    Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(tmp_path / 'rgb.png')
    with pytest.raises(ValueError, match=r'rgb.png has the shape \(5, 7, 3\)'):
        read_scores(tmp_path / 'rgb.png')
    Image.fromarray(np.zeros((5, 7), np.uint8)).convert('P').save(tmp_path / 'palette.png')
    with pytest.raises(ValueError, match='palette.png is damaged or no .png file of numbers: it holds indices'):
        read_scores(tmp_path / 'palette.png')


def test_wrong_arguments(tmp_path):
    np.savez(tmp_path / 'two.npz', a=SCORES, b=SCORES)
    np.save(tmp_path / 'one.npy', SCORES)
    with pytest.raises(ValueError, match=r"two.npz holds 2 arrays, \['a', 'b'\]: name the one"):
        read_scores(tmp_path / 'two.npz')
    with pytest.raises(ValueError, match=r"two.npz has no entry 'c', but \['a', 'b'\]"):
        read_scores(tmp_path / 'two.npz', key='c')
    with pytest.raises(ValueError, match="one.npy has no entry 'a'"):
        read_scores(tmp_path / 'one.npy', key='a')
    with pytest.raises(ValueError, match='scale must be positive, got 0'):
        read_scores(tmp_path / 'one.npy', scale=0)
    with pytest.raises(ValueError, match='score maps end on .npy'):
        read_scores(tmp_path / 'one.exr')
    with pytest.raises(FileNotFoundError, match='none.npy does not exist'):
        read_scores(tmp_path / 'none.npy')


def test_files_of_a_folder(tmp_path):
    for name in ('b.npy', 'a.npy', '.hidden.npy', 'notes.txt', '0001_anomaly.npy'):
        (tmp_path / name).touch()
    (tmp_path / 'folder.npy').mkdir()
    assert list(find_scores(tmp_path)) == ['0001_anomaly', 'a', 'b']
    assert find_scores(tmp_path, '_anomaly.npy') == {'0001': tmp_path / '0001_anomaly.npy'}
    (tmp_path / 'a.PNG').touch()
    with pytest.raises(ValueError, match='a.npy are both score maps of a'):
        find_scores(tmp_path)
    with pytest.raises(ValueError, match='no score maps in .* ends on .h5'):
        find_scores(tmp_path, '.h5')
