# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""The pictures of the toy data sets: training streets, two kinds of test scenes, object images.

Every function takes a random generator and is a pure function of its state.
"""

import numpy as np

from .anomalies import LOST_CARGO, ROAD_ANOMALIES
from .canvas import Camera, Canvas, Pen, noise, pick, ring, vary
from .objects import OBJECTS
from .palette import Thing
from .scene import Scene
from .styles import country_style, develop, foreign_style, training_style
from .vehicles import VEHICLES


def draw_street(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A training scene: image (H, W, 3) uint8 BGR, ids (H, W) uint16 (label id, or label id * 1000 + number)."""
    scene = Scene(rng, size, training_style(rng))
    scene.populate()
    return scene.render()


def draw_country(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A scene of the first test set, with large anomalies: image and ids, ``ANOMALY_ID`` where they are."""
    scene = Scene(rng, size, country_style(rng))
    scene.anomalies(ROAD_ANOMALIES, int(rng.choice((1, 2, 3), p=(.5, .3, .2))), 5., 13., (.9, 1.4))
    scene.populate()
    return scene.render()


def draw_lost_cargo(rng: np.random.Generator, size: tuple[int, int], empty: bool) -> tuple[np.ndarray, np.ndarray]:
    """A scene of the second test set, with small anomalies on the road, or none: image and ids."""
    scene = Scene(rng, size, foreign_style(rng))
    if not empty:
        scene.anomalies(LOST_CARGO, int(rng.integers(1, 4)), 6.5, 17., (.75, 1.3))
    scene.populate()
    return scene.render()


def draw_objects(rng: np.random.Generator, size: tuple[int, int],
                 crowd: bool) -> tuple[np.ndarray, list[tuple[tuple[int, str], bool, np.ndarray]]]:
    """An object image: BGR uint8 and, for each object, its category, whether it is a crowd, its mask (H, W) bool."""
    canvas = Canvas(size)
    backdrop(rng, canvas)
    known = {1, 2, 3, 4, 6, 8}
    keys = [[key for key in OBJECTS if (key[0] in known) == flag] for flag in (False, True)]
    chosen = [pick(rng, keys[int(rng.random() < .28)]) for _ in range(int(rng.integers(1, 4)))]
    places = rng.permutation(len(chosen))
    found = []
    if crowd:
        found.append(((1, 'person'), True))
        for x in np.linspace(.05, .95, 12):
            _object(rng, canvas, OBJECTS[1, 'person'], (1, 'person'), 1000, x, rng.uniform(.3, .36), .52)
    for place, key in zip(places, chosen):
        found.append((key, False))
        _object(rng, canvas, OBJECTS[key], key, 1000 + len(found) - 1, (place + .5) / len(chosen) + rng.normal(0, .04),
                rng.uniform(.35, .8) / (1 + .25 * (len(chosen) > 2)), rng.uniform(.68, .97))
    image, ids = canvas.result()
    image = develop(rng, image, rng.uniform(.88, 1.08, 3), float(rng.uniform(.85, 1.2)), grain=2.2)
    masks = [ids == 1000 + number for number in range(len(found))]
    return image, [(*entry, mask) for entry, mask in zip(found, masks)]


def _object(rng: np.random.Generator, canvas: Canvas, thing: Thing, key: tuple[int, str], ident: int, x: float,
            share: float, base: float) -> None:
    """One object, ``share`` of the image high, standing at (``x``, ``base``) of the image."""
    scale = min(share * canvas.height / thing.height, .75 * canvas.width / thing.width)
    origin = np.array((x * canvas.width, base * canvas.height))
    foot = ring(*origin, thing.width * scale * .55, max(2., .08 * thing.width * scale))
    canvas.shadow(foot, .35)
    if thing.draw is None:
        ahead = 7.
        camera = Camera(scale * ahead, 1.3, origin[1] - scale * 1.3, origin[0])
        right = float(rng.uniform(-2.6, 2.6))
        side = -1 if right > .7 else (1 if right < -.7 else 0)

        def to_pixels(points: np.ndarray) -> np.ndarray:
            moved = np.stack([right + points[:, 2], points[:, 1], ahead + points[:, 0]], 1)
            return camera(moved) - (right * scale, 0)

        with Pen(canvas, to_pixels, scale, rng, ident, sun=.5, texture=.03) as pen:
            VEHICLES[key[1]](pen, rng, side, bool(rng.random() < .5))
        return
    factor = np.array((scale if rng.random() < .5 else -scale, -scale))
    with Pen(
            canvas, lambda points: origin + points * factor, scale, rng, ident, sun=float(rng.uniform(-1, 1)),
            texture=.05) as pen:
        thing.draw(pen, rng)


def backdrop(rng: np.random.Generator, canvas: Canvas) -> None:
    """A room, a lawn or a beach."""
    h, w = canvas.height, canvas.width
    kind = rng.integers(3)
    level = rng.uniform(.45, .65)
    wall = vary(rng, ((205, 195, 178), (170, 200, 225), (150, 190, 230))[kind], 16)
    floor = vary(rng, ((150, 110, 78), (104, 140, 70), (215, 195, 150))[kind], 16)
    y = np.arange(h, dtype=np.float32)[:, None, None] / h
    canvas.image[:] = np.where(y < level, wall * (1.05 - .2 * y), floor * (.75 + .4 * y))
    if kind == 0:
        step = w / rng.uniform(5, 12)
        for x in np.arange(0, w, step):
            canvas.fill([np.array([(x, 0), (x + step * .3, 0), (x + step * .3, level * h), (x, level * h)])],
                        wall * .93)
        for k in np.linspace(-1.5, 2.5, 12):
            canvas.fill([
                np.array([(k * w, h), (k * w + 3, h), (w * (.5 + .2 * (k - .5)) + 2, level * h),
                          (w * (.5 + .2 * (k - .5)), level * h)])
            ], floor * .75)
    else:
        outline = level * h - h * .1 * np.clip(1 + noise(rng, (1, 40), 10, 3)[0], 0, 2)
        points = np.concatenate([np.stack([np.linspace(0, w, 40), outline], 1), [(w, level * h), (0, level * h)]])
        canvas.fill([points], vary(rng, ((0, 0, 0), (72, 104, 62), (70, 130, 165))[kind]))
    canvas.image *= (1 + .03 * noise(rng, (h, w), 20, 3))[..., None]
