# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""The empty street: camera, sky, skyline and ground in perspective."""
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from .canvas import Camera, Canvas, Colour, Pen, noise, pick, ring, vary
from .labels import BUILDING, GROUND, PARKING, RAILS, ROAD, SIDEWALK, SKY, TERRAIN, VEGETATION
from .styles import Style

NEAR = 1.2


class Item(NamedTuple):
    """Something to draw, at a distance."""
    ahead: float
    draw: Callable[[], None]


class Site:
    """An empty street: camera, sky, skyline and ground, and the book of what stands where and is drawn when."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int], style: Style) -> None:
        self.rng, self.style, self.canvas = rng, style, Canvas(size)
        width, height = self.canvas.width, self.canvas.height
        self.camera = Camera(width * rng.uniform(.72, .92), rng.uniform(*style.camera_height),
                             height * rng.uniform(*style.horizon), width * rng.uniform(.4, .6), rng.normal(0, .0005))
        self.half = rng.uniform(*style.half_road)
        self.walk = [rng.uniform(2., 4.) if style.urban else 0. for _ in range(2)]
        self.park = [2.2 if style.urban and rng.random() < .15 else 0. for _ in range(2)]
        self.items: list[Item] = []
        self.taken: list[tuple[float, float, float, float]] = []  # metres: left, right, near, far
        self.kept: list[tuple[float, float, float]] = []  # pixels that stay in sight: left, right; metres: near
        self.numbers: dict[int, int] = {}

    # --- bookkeeping -----------------------------------------------------

    def edge(self, side: int) -> float:
        """Metres from the middle of the road to where the houses begin, on the left (-1) or right (1)."""
        index = (side + 1) // 2
        return self.half + self.park[index] + self.walk[index]

    def ident(self, label: int) -> int:
        """Id of a new thing of a class with instances."""
        number = self.numbers.get(label, 0)
        self.numbers[label] = number + 1
        return label * 1000 + number

    def haze(self, ahead: float) -> tuple[Colour, float]:
        return self.style.sky[1], 1 - float(np.exp(-self.style.haze * ahead))

    def scale(self, ahead: float) -> float:
        return self.camera.focal / ahead

    def columns(self, left: float, right: float, ahead: float) -> tuple[float, float]:
        pixels = self.camera(np.array([(left, 0, ahead), (right, 0, ahead)]))
        return float(pixels[0, 0]), float(pixels[1, 0])

    def claim(self, left: float, right: float, near: float, far: float, keep: bool = False) -> bool:
        """Take a place on the ground, unless something stands there or would be hidden."""
        for other in self.taken:
            if left < other[1] and right > other[0] and near < other[3] and far > other[2]:
                return False
        if self.hides(left, right, near):
            return False
        start, end = self.columns(left, right, near)
        if keep and (start < 0.02 * self.canvas.width or end > 0.98 * self.canvas.width
                     or any(start < kept[1] and end > kept[0] for kept in self.kept)):
            return False
        self.taken.append((left, right, near, far))
        if keep:
            self.kept.append((start, end, near))
        return True

    def hides(self, left: float, right: float, ahead: float) -> bool:
        """Whether a thing there would stand in front of something that stays in sight."""
        start, end = self.columns(left, right, ahead)
        return any(start < kept[1] and end > kept[0] and ahead < kept[2] for kept in self.kept)

    def add(self, ahead: float, draw: Callable[[], None]) -> None:
        self.items.append(Item(ahead, draw))

    def flat_pen(self,
                 right: float,
                 ahead: float,
                 ident: int,
                 size: float = 1.,
                 flip: bool = False,
                 texture: float = .07,
                 up: float = 0.) -> Pen:
        """Pen for a thing that faces the camera, standing at (right, ahead)."""
        origin, scale = self.camera(np.array([(right, up, ahead)]))[0], self.scale(ahead) * size
        factor = np.array((-scale if flip else scale, -scale))
        return Pen(self.canvas, lambda points: origin + points * factor, scale, self.rng, ident, self.haze(ahead),
                   self.style.sun, texture)

    def ground_shadow(self, right: float, ahead: float, width: float, depth: float) -> None:
        points = ring(right - .35 * self.style.sun * width, ahead, width * .62, depth)
        points = np.stack([points[:, 0], np.zeros(len(points)), np.maximum(points[:, 1], NEAR)], 1)
        self.canvas.shadow(self.camera(points), min(.25 + .6 * self.style.shadow, .7))

    # --- backdrop ----------------------------------------------------------

    def sky(self) -> None:
        canvas, (top, low) = self.canvas, self.style.sky
        t = np.clip(np.arange(canvas.height) / max(self.camera.horizon, 1), 0, 1).astype(np.float32)[:, None, None]
        canvas.image[:] = np.asarray(top, np.float32) * (1 - t) + np.asarray(low, np.float32) * t
        rows = int(self.camera.horizon) + 1
        colour, cover = self.style.cloud
        field_ = cv2.resize(noise(self.rng, (rows // 2 + 1, canvas.width // 8), 14, 4), (canvas.width, rows))
        share = np.clip((field_ + cover * 1.6 - 1) * .5, 0, .8)[..., None]
        canvas.image[:rows] += share * (np.asarray(colour, np.float32) - canvas.image[:rows])
        canvas.ids[:] = SKY

    def skyline(self) -> None:
        """Hills, woods or roofs along the horizon."""
        rng, canvas, style = self.rng, self.canvas, self.style
        x = np.arange(0, canvas.width + 8, 8)
        layers = [('hills', .16), ('woods', .07)] if not style.urban else [('roofs', .12), ('woods', .06)]
        for kind, height in layers:
            if kind == 'roofs':
                level = np.repeat(rng.uniform(.4, 1.6, len(x) // 3 + 1), 3)[:len(x)]
                colour, ident = vary(rng, pick(rng, style.facades)), BUILDING
                across = np.repeat(x, 2)[1:]
                level = np.repeat(level, 2)[:-1]
            else:
                level = 1 + .6 * noise(rng, (1, len(x)), 14 if kind == 'hills' else 3, 3)[0]
                colour, across, ident = vary(rng, pick(rng, style.leaves)), x, VEGETATION
            tops = self.camera.horizon - canvas.height * height * np.clip(level, .15, 2)
            outline = np.concatenate(
                [np.stack([across, tops], 1), [(canvas.width, self.camera.horizon + 2), (0, self.camera.horizon + 2)]])
            with Pen(canvas, lambda points: points, 1, rng, ident, self.haze(160 if kind == 'hills' else 110),
                     style.sun, .12) as pen:
                pen.polygon(outline, colour)

    def ground(self) -> None:
        """Road, kerbs, pavements and fields, in perspective, as functions of the metres that a pixel shows."""
        rng, canvas, style, half = self.rng, self.canvas, self.style, self.half
        first = int(np.ceil(self.camera.horizon)) + 1
        right, ahead = self.camera.ground(np.arange(first, canvas.height, dtype=np.float32), canvas.width)
        beyond = GROUND if style.urban and rng.random() < .25 else (
            SIDEWALK if style.urban and rng.random() < .5 else TERRAIN)
        kinds = {
            SIDEWALK: style.walk,
            PARKING: vary(rng, style.road) * .86,
            ROAD: style.road,
            TERRAIN: style.soil,
            GROUND: vary(rng, (150, 138, 120))
        }
        bounds, surfaces = [], [beyond]
        for side, kind in ((-1, SIDEWALK), (-1, PARKING), (1, PARKING), (1, SIDEWALK)):
            index = (side + 1) // 2
            outer, inner = self.edge(side) + (2 if kind == SIDEWALK else -self.walk[index]), half
            if kind == SIDEWALK:
                inner += self.park[index]
            width = self.walk[index] if kind == SIDEWALK else self.park[index]
            if side < 0:
                bounds.append(-outer if width else -half)
                surfaces.append(kind if width else surfaces[-1])
                if kind == PARKING:
                    bounds.append(-half)
                    surfaces.append(ROAD)
            elif kind == PARKING:
                bounds.append(half)
                surfaces.append(PARKING if width else (SIDEWALK if self.walk[1] else beyond))
            else:
                bounds += [inner, outer if width else inner]
                surfaces += [SIDEWALK if width else beyond, beyond]
        index = np.searchsorted(np.array(bounds, np.float32), right)
        colours = np.array([kinds[kind] for kind in surfaces], np.float32)[index]
        ids = np.array(surfaces, np.uint16)[index]
        if style.urban and rng.random() < .08:
            start = rng.uniform(-half + .3, half - 2.3)
            band = (right > start) & (right < start + 2.1)
            ids[band] = RAILS
            rails = (np.abs(right - start - .35) < .06) | (np.abs(right - start - 1.75) < .06)
            colours[rails] = (150, 140, 135)
        on_road = np.abs(right) < half
        fade = np.clip(14 / ahead, .05, 1)
        grain = sum(gain * self._tile(right, ahead, metres) for metres, gain in ((16., .04), (2.5, .05)))
        rough = np.where(on_road, 1.8 if style.dirt else 1., np.where(ids == TERRAIN, 2.2, .8))
        light = 1 + grain * fade * rough
        if style.dirt:
            light += np.where(on_road, .12 * np.cos(right * 2 * np.pi / 1.7), 0)
            tuft = on_road & (np.abs(right) < .5 + .25 * self._tile(right, ahead, 4.)) & (rng.random() < .6)
            colours[tuft] = colours[tuft] * .4 + np.asarray(style.soil, np.float32) * .6
        else:
            light -= np.where(on_road, .05 * np.cos(right * 2 * np.pi / 1.75)**2, 0)
        if style.urban:
            kerb = (np.abs(np.abs(right) - half) < .14) & ~on_road
            colours[kerb] = colours[kerb] * .5 + 90
            slabs = (ids == SIDEWALK) & (((ahead % 1.5) < .08) | ((right % 1.) < .06)) & (ahead < 22)
            light = np.where(slabs, light * .88, light)
        if style.lanes:
            self._markings(right, ahead, colours)
        light *= 1 - style.shadow * self._shade(right, ahead)
        colours *= light[..., None]
        if style.rain:  # the sky and lights on a wet road
            gleam = (.5 + .5 * np.tanh(self._tile(right, ahead * .3, 3.)))[..., None] * on_road[..., None]
            colours += style.rain * gleam * (np.asarray(style.sky[1], np.float32) - colours)
        share = (1 - np.exp(-style.haze * ahead)).astype(np.float32)[..., None]
        canvas.image[first:] = colours * (1 - share) + share * np.asarray(style.sky[1], np.float32)
        canvas.ids[first:] = ids

    def _tile(self, right: np.ndarray, ahead: np.ndarray, metres: float) -> np.ndarray:
        """Texture on the ground: a noise tile, ``metres`` wide, mirrored endlessly."""
        tile = noise(self.rng, (128, 128), 24, 4)
        across, down = (_mirror(place * np.float32(128 / metres)) for place in (right, ahead))
        return cv2.remap(tile, across, np.repeat(down, right.shape[1], 1), cv2.INTER_LINEAR)

    def _markings(self, right: np.ndarray, ahead: np.ndarray, colours: np.ndarray) -> None:
        rng, half = self.rng, self.half
        paint = np.asarray(vary(rng, (226, 224, 214), 8), np.float32)
        lanes = 3 if half > 5.2 and rng.random() < .5 else 2
        chosen = np.abs(np.abs(right) - half + .35) < .07
        dashed = (ahead % 7) < 3.4
        for place in np.linspace(-half, half, lanes + 1)[1:-1]:
            chosen |= (np.abs(right - place) < .075) & dashed
        if self.style.urban and rng.random() < .3:
            start = rng.uniform(7, 22)
            chosen |= (ahead > start) & (ahead < start + 3) & ((right % 1.1) < .55) & (np.abs(right) < half - .2)
        worn = np.clip(.85 - .18 * self._tile(right, ahead, 3.), .2, .95)[..., None] * chosen[..., None]
        colours += worn * (paint - colours)

    def _shade(self, right: np.ndarray, ahead: np.ndarray) -> np.ndarray:
        """Share of the sun that houses and trees take away, on the side that they stand on."""
        side = 1 if self.style.sun > 0 else -1
        nodes = self.rng.uniform(-1.5, 3.5, 24) if self.style.urban else self.rng.uniform(-3., .8, 24)
        border = (self.half - np.repeat(nodes, 2))[np.clip(ahead / 2.6, 0, 47).astype(int)]
        shade = (right * side > border).astype(np.float32)
        leafy = np.clip(self._tile(right, ahead, 9.), 0, 1) * (np.abs(right * side - self.half + .5) < 2)
        return np.clip(shade + leafy, 0, 1)


def _mirror(values: np.ndarray) -> np.ndarray:
    """Fold coordinates into [0, 127] as in a pair of mirrors."""
    return np.abs(values - 254 * np.rint(values / 254))
