# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""The dissimilarity maps on disk: where their files lie and how large they may be."""
import os
from collections.abc import Sequence

from mgcda.structures.dissimilarity import KINDS_OF_ONE_SIZE, MAP_KINDS

#: What to do when maps are missing, for error messages.
MAPS_HINT = ('write the maps of this data set with tools/dataset_converters/make_maps.py and point maps_root at them, '
             'or leave LoadDissimilarityMaps out of the pipeline and let the segmentor compute them')


def size_problems(sizes: dict[str, tuple[int, int]], paths: dict[str, str]) -> list[str]:
    """What is wrong with the sizes of an image's maps, naming the files; maps of one network must be of one size.

    That may be the image's, the network's, or any other.

    Args:
        sizes: (H, W) of the maps that could be read, by kind.
        paths: their files.
    """
    problems = []
    for kinds in KINDS_OF_ONE_SIZE:
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
