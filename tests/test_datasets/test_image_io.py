# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import cv2
import numpy as np
import pytest
from PIL import Image

from mgcda.datasets.image_io import read_image, read_overlay, read_plane


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


def test_png_is_read_exactly_and_in_bgr(tmp_path, image):
    path = str(tmp_path / 'a.png')
    Image.fromarray(image[..., ::-1].copy()).save(path)
    np.testing.assert_array_equal(read_image(path), image)


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.webp', '.bmp'])
@pytest.mark.parametrize('kept', [0.0, 0.02, 0.5, 0.9, 0.995])
def test_truncated_files_are_refused(tmp_path, image, suffix, kept):
    path = tmp_path / f'a{suffix}'
    cv2.imwrite(str(path), image)
    read_image(str(path))
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * kept)])
    with pytest.raises(ValueError, match=f'a{suffix}'):
        read_image(str(path))
    with pytest.raises(ValueError, match=f'a{suffix}'):
        read_plane(str(path))


def test_damaged_png_is_refused(tmp_path, image):
    path = tmp_path / 'a.png'
    cv2.imwrite(str(path), image)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match='a.png is a damaged PNG'):
        read_image(str(path))


def test_jpeg_with_bytes_of_its_own_at_the_end_is_accepted(tmp_path, image):
    path = tmp_path / 'a.jpg'
    cv2.imwrite(str(path), image)
    expected = read_image(str(path))
    path.write_bytes(path.read_bytes() + b'trailer' * 100)
    np.testing.assert_array_equal(read_image(str(path)), expected)


def test_missing_file_and_wrong_content(tmp_path):
    with pytest.raises(FileNotFoundError, match='image not found: .*a.png'):
        read_image(str(tmp_path / 'a.png'))
    (tmp_path / 'b.png').write_text('no picture')
    with pytest.raises(ValueError, match='b.png'):
        read_image(str(tmp_path / 'b.png'))


def test_palette_files_give_their_indices(tmp_path):
    indices = np.arange(12, dtype=np.uint8).reshape(3, 4)
    palette = Image.fromarray(indices, mode='P')
    palette.putpalette([255 - i for i in range(256) for _ in range(3)])
    palette.save(tmp_path / 'a.png')
    np.testing.assert_array_equal(read_plane(str(tmp_path / 'a.png')), indices)


def test_plane_of_several_channels(tmp_path, image):
    cv2.imwrite(str(tmp_path / 'equal.png'), np.repeat(image[..., :1], 3, 2))
    np.testing.assert_array_equal(read_plane(str(tmp_path / 'equal.png')), image[..., 0])
    cv2.imwrite(str(tmp_path / 'colour.png'), image)
    with pytest.raises(ValueError, match='colour.png has 3 channels that differ'):
        read_plane(str(tmp_path / 'colour.png'))


def test_opacity_does_not_count(tmp_path, image):
    for number, mode in enumerate(('LA', 'RGBA')):
        path = tmp_path / f'{number}.png'
        plane = image[..., :1]
        Image.fromarray(np.concatenate([plane] * (len(mode) - 1) + [image[..., 1:2]], 2), mode=mode).save(path)
        np.testing.assert_array_equal(read_plane(str(path)), plane[..., 0])


def test_images_of_absurd_size_are_refused(tmp_path):
    path = tmp_path / 'a.bmp'
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(path)
    data = bytearray(path.read_bytes())
    data[18:26] = (40000).to_bytes(4, 'little') * 2  # width and height
    path.write_bytes(data)
    for read in (read_image, read_plane):
        with pytest.raises(ValueError, match='a.bmp is truncated or no readable image'):
            read(str(path))


def test_overlays_of_wrong_bytes_are_named(tmp_path):
    """Whatever NumPy makes of them: an overlay, or an error that names the file."""
    rng, messages, path = np.random.default_rng(0), [], tmp_path / 'a_rgb.npz'
    np.savez_compressed(path, rgb=np.arange(60).reshape(4, 5, 3))
    content = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(300):
        wrong = content.copy()
        wrong[rng.integers(0, len(content), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(wrong.tobytes())
        try:
            read_overlay(str(path))
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 100 and all('a_rgb.npz' in message for message in messages)
