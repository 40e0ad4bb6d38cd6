# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Canvas, camera and pen of the toy streets: everything that touches pixels.

A picture is drawn back to front at ``SUPERSAMPLE`` times its size. Whatever
paints the image writes the same polygon into the map of ids, so that picture
and label agree by construction. Colours are RGB in [0, 255].
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

SUPERSAMPLE = 2
_SHIFT = 3  # fractional bits of polygon corners

Colour = Sequence[float]


def noise(rng: np.random.Generator, shape: tuple[int, int], cell: float = 8, octaves: int = 3) -> np.ndarray:
    """Smooth random field (h, w) float32 with mean about 0 and deviation about 1; ``cell`` pixels to a wave."""
    height, width = shape
    field = np.zeros(shape, np.float32)
    power = 0.
    for octave in range(octaves):
        size = max(cell / 2**octave, 1)
        grid = rng.standard_normal((int(height / size) + 2, int(width / size) + 2), dtype=np.float32)
        gain = 0.6**octave
        field += gain * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        power += (0.7 * gain)**2
    return field / np.float32(power**0.5)


def vary(rng: np.random.Generator, colour: Colour, amount: float = 12.) -> np.ndarray:
    """``colour`` with a little other brightness and hue."""
    colour = np.asarray(colour, np.float32)
    return np.clip(colour + rng.normal(0, amount) + rng.normal(0, amount / 2, 3), 2, 253).astype(np.float32)


def pick(rng: np.random.Generator, options: Sequence):
    """One of ``options``, all alike likely, whatever they are."""
    return options[int(rng.integers(len(options)))]


@dataclass
class Camera:
    """Pinhole camera above a plane: metres (right, up, ahead) to pixels; the road bends by ``curve`` * ahead^2."""
    focal: float
    height: float
    horizon: float
    centre: float
    curve: float = 0.

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) metres to (N, 2) pixels."""
        points = np.asarray(points, np.float64)
        ahead = np.maximum(points[..., 2], 0.6)
        pixels = np.empty(points.shape[:-1] + (2, ))
        pixels[..., 0] = self.centre + self.focal * (points[..., 0] / ahead + self.curve * ahead)
        pixels[..., 1] = self.horizon + self.focal * (self.height - points[..., 1]) / ahead
        return pixels

    def ground(self, rows: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Metres to the right (h, w) and ahead (h, 1) of the plane's points that ``rows`` of pixels show."""
        ahead = (self.focal * self.height / np.maximum(rows - self.horizon, 0.05))[:, None]
        right = (np.arange(width) - self.centre)[None] * ahead / self.focal - self.curve * ahead**2
        return right.astype(np.float32), ahead.astype(np.float32)


class Canvas:
    """Image (h, w, 3) float32 and ids (h, w) uint16 (label id, or label id * 1000 + number of the thing)."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = tuple(size)
        self.height, self.width = (SUPERSAMPLE * side for side in size)
        self.image = np.zeros((self.height, self.width, 3), np.float32)
        self.ids = np.zeros((self.height, self.width), np.uint16)

    @staticmethod
    def corners(points: np.ndarray) -> np.ndarray:
        points = np.minimum(np.maximum(points, -8000.), 8000.)
        return np.rint(points * 2**_SHIFT).astype(np.int32)

    def fill(self, polygons: Sequence[np.ndarray], colour: Colour, ident: int | None = None) -> None:
        """Fill polygons of pixels with one colour, and their ids unless ``ident`` is None."""
        polygons = [self.corners(polygon) for polygon in polygons]
        if not polygons:
            return
        cv2.fillPoly(self.image, polygons, tuple(float(value) for value in colour), shift=_SHIFT)
        if ident is not None:
            cv2.fillPoly(self.ids, polygons, int(ident), shift=_SHIFT)

    def shadow(self, polygon: np.ndarray, strength: float) -> None:
        """Darken a polygon; labels stay."""
        mask = np.zeros(self.ids.shape, np.uint8)
        cv2.fillPoly(mask, [self.corners(polygon)], 1, shift=_SHIFT)
        x, y, w, h = cv2.boundingRect(mask)
        if w and h:
            soft = cv2.blur(mask[y:y + h, x:x + w].astype(np.float32), (3, 3))
            self.image[y:y + h, x:x + w] *= (1 - strength * soft)[..., None]

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, 3) float32 and ids (H, W) uint16 at the picture's own size."""
        image = cv2.resize(self.image, self.size[::-1], interpolation=cv2.INTER_AREA)
        return image, np.ascontiguousarray(self.ids[SUPERSAMPLE // 2::SUPERSAMPLE, SUPERSAMPLE // 2::SUPERSAMPLE])


class Pen:
    """Draws one thing in its own metres; shades, textures and hazes it as a whole when it is done.

    Use it as a context manager: ``with Pen(canvas, to_pixels, scale, rng, ident) as pen: pen.ellipse(...)``.

    Args:
        to_pixels: (N, 2 or 3) metres to (N, 2) pixels.
        scale: pixels to a metre, for the width of lines.
        ident: what the covered pixels get in ``canvas.ids``.
        haze: colour and share of the haze in front of the thing.
        sun: -1 lit from the left ... 1 lit from the right.
        texture: strength of the grain over the thing.
    """

    def __init__(self,
                 canvas: Canvas,
                 to_pixels: Callable[[np.ndarray], np.ndarray],
                 scale: float,
                 rng: np.random.Generator,
                 ident: int,
                 haze: tuple[Colour, float] = ((0, 0, 0), 0.),
                 sun: float = 0.4,
                 texture: float = 0.07) -> None:
        self.canvas, self.to_pixels, self.scale, self.rng = canvas, to_pixels, scale, rng
        self.ident, self.haze, self.sun, self.texture = ident, haze, sun, texture
        self.mask = np.zeros(canvas.ids.shape, np.uint8)

    def __enter__(self) -> 'Pen':
        return self

    def polygon(self, points: Sequence, colour: Colour) -> None:
        corners = [self.canvas.corners(self.to_pixels(np.asarray(points, np.float64)))]
        cv2.fillPoly(self.canvas.image, corners, tuple(float(value) for value in colour), shift=_SHIFT)
        cv2.fillPoly(self.mask, corners, 1, shift=_SHIFT)

    def hull(self, points: Sequence, colour: Colour) -> None:
        """Convex outline of the points."""
        pixels = self.to_pixels(np.asarray(points, np.float64)).astype(np.float32)
        corners = [self.canvas.corners(cv2.convexHull(pixels)[:, 0])]
        cv2.fillPoly(self.canvas.image, corners, tuple(float(value) for value in colour), shift=_SHIFT)
        cv2.fillPoly(self.mask, corners, 1, shift=_SHIFT)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def ellipse(self, cx: float, cy: float, rx: float, ry: float, colour: Colour, turn: float = 0.) -> None:
        self.polygon(ring(cx, cy, rx, ry, turn), colour)

    def blob(self,
             cx: float,
             cy: float,
             rx: float,
             ry: float,
             colour: Colour,
             rough: float = 0.2,
             corners: int = 14) -> None:
        """An ellipse with a random outline."""
        angle = np.sort(self.rng.uniform(0, 0.7, corners) + np.arange(corners)) * (2 * np.pi / corners)
        radius = 1 + self.rng.uniform(-rough, rough, corners)
        self.polygon(np.stack([cx + rx * radius * np.cos(angle), cy + ry * radius * np.sin(angle)], 1), colour)

    def line(self, points: Sequence, width: float, colour: Colour, closed: bool = False) -> None:
        """Lines ``width`` metres wide, one pixel at least."""
        corners = [self.canvas.corners(self.to_pixels(np.asarray(points, np.float64)))]
        thickness = max(1, int(round(width * self.scale)))
        cv2.polylines(
            self.canvas.image, corners, closed, tuple(float(value) for value in colour), thickness, shift=_SHIFT)
        cv2.polylines(self.mask, corners, closed, 1, thickness, shift=_SHIFT)

    def pattern(self, kind: str, colour: Colour, period: float, turn: float = 0., share: float = 0.5) -> None:
        """Stripes, checks, dots or patches over what has been drawn so far; ``period`` in metres."""
        x, y, w, h = cv2.boundingRect(self.mask)
        if not (w and h):
            return
        wave = 1 / max(period * self.scale, 2.)
        across, down = np.meshgrid((np.arange(w) - w / 2) * wave, (np.arange(h) - h / 2) * wave)
        a, b = across * np.cos(turn) + down * np.sin(turn), down * np.cos(turn) - across * np.sin(turn)
        if kind == 'stripes':
            chosen = (a % 1) < share
        elif kind == 'checks':
            chosen = ((a % 1) < 0.5) ^ ((b % 1) < 0.5)
        elif kind == 'dots':
            chosen = (a % 1 - 0.5)**2 + (b % 1 - 0.5)**2 < share**2 / 3
        elif kind == 'patches':
            chosen = noise(self.rng, (h, w), 1 / wave, 2) > np.quantile((-1, 1), 1 - share)
        else:
            raise ValueError(f'kind must be stripes, checks, dots or patches, got {kind!r}')
        chosen &= self.mask[y:y + h, x:x + w] > 0
        self.canvas.image[y:y + h, x:x + w][chosen] = colour

    def __exit__(self, *error) -> None:
        x, y, w, h = cv2.boundingRect(self.mask)
        if not (w and h) or error[0] is not None:
            return
        rows, columns = slice(y, y + h), slice(x, x + w)
        chosen = self.mask[rows, columns] > 0
        light = np.linspace(1.1, 0.84, h, dtype=np.float32)[:, None]
        light = light * (1 + np.float32(0.12 * self.sun) * np.linspace(-1, 1, w, dtype=np.float32))[None]
        if self.texture:
            light *= (1 + np.float32(self.texture) * noise(self.rng, (h, w), 7, 2))
        colour, share = self.haze
        patch = self.canvas.image[rows, columns]
        shaded = patch * (light * (1 - share))[..., None]
        if share:
            shaded += np.float32(share) * np.asarray(colour, np.float32)
        np.copyto(patch, shaded, where=chosen[..., None])
        self.canvas.ids[rows, columns][chosen] = self.ident


def ring(cx: float, cy: float, rx: float, ry: float, turn: float = 0., corners: int = 22) -> np.ndarray:
    """Corners (N, 2) of an ellipse."""
    angle = np.arange(corners) * (2 * np.pi / corners)
    x, y = rx * np.cos(angle), ry * np.sin(angle)
    return np.stack([cx + x * np.cos(turn) - y * np.sin(turn), cy + x * np.sin(turn) + y * np.cos(turn)], 1)
