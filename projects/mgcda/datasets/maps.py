# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""The dissimilarity maps on disk: their kinds and where their files lie."""
import os
from collections.abc import Sequence

#: Kinds of maps in the order of their channels in a dissimilarity sample, after the image.
MAP_KINDS: tuple[str, ...] = ('synthesis', 'semantic', 'entropy', 'perceptual', 'distance')
#: Kinds that every dissimilarity network reads; the others are the uncertainty maps, which some do without.
REQUIRED_KINDS: tuple[str, ...] = MAP_KINDS[:2]
#: Kinds that one network makes, at its size: the generator, the segmenter.
_KINDS_OF_ONE_SIZE = (('synthesis', 'perceptual'), ('semantic', 'entropy', 'distance'))
#: What to do when maps are missing, for error messages.
MAPS_HINT = ('write the maps of this data set with tools/dataset_converters/make_maps.py and point maps_root at them, '
             'or leave LoadDissimilarityMaps out of the pipeline and let the segmentor compute them')


def check_kinds(name: str, kinds: Sequence[str]) -> tuple[str, ...]:
    """The kinds in the order of their channels.

    Raises:
        ValueError: an unknown kind, or one that every network reads is missing; the message starts with ``name``.
    """
    if not set(REQUIRED_KINDS) <= set(kinds) <= set(MAP_KINDS):
        raise ValueError(f'{name} must hold {REQUIRED_KINDS} and may hold {MAP_KINDS[2:]}, got {tuple(kinds)}')
    return tuple(kind for kind in MAP_KINDS if kind in kinds)


def size_problems(sizes: dict[str, tuple[int, int]], paths: dict[str, str]) -> list[str]:
    """What is wrong with the sizes of an image's maps, naming the files; maps of one network must be of one size.

    That may be the image's, the network's, or any other.

    Args:
        sizes: (H, W) of the maps that could be read, by kind.
        paths: their files.
    """
    problems = []
    for kinds in _KINDS_OF_ONE_SIZE:
        first, *others = [kind for kind in kinds if kind in sizes] or [None]
        for kind in others:
            if sizes[kind] != sizes[first]:
                problems.append(f'{kind} map {paths[kind]} is {sizes[kind][1]}x{sizes[kind][0]}, but {first} map '
                                f'{paths[first]} is {sizes[first][1]}x{sizes[first][0]}; maps of one network must be '
                                'of one size')
    return problems


def map_file(maps_root: str, kind: str, image: str) -> str:
    """Path of a map: ``<maps_root>/<kind>/<image, suffix replaced by .png>``.

    Args:
        image: path of the image relative to the data set's image folder.
    """
    return os.path.join(maps_root, kind, os.path.splitext(image)[0] + '.png')


def map_files(maps_root: str, image: str, kinds: Sequence[str] = MAP_KINDS) -> dict[str, str]:
    """Paths of all maps of an image, by kind."""
    return {kind: map_file(maps_root, kind, image) for kind in kinds}
