# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Vehicles, in perspective: drawn in metres (along, up, across), ``along`` = 0 at the end that faces the camera."""
import numpy as np

from .canvas import Pen, pick, ring, vary
from .palette import GLASS, PAINT, TYRE, VIVID, Rng

# Outline (along, up) from the near end over the roof to the far end; glass; half width.
CARS = (
    ([(0, .3), (0, .85), (.15, .95), (.75, .98), (1.3, 1.42), (2.6, 1.45), (3.35, 1.0), (4.3, .8),
      (4.4, .3)], [(.85, .98), (1.35, 1.36), (2.55, 1.38), (3.15, 1.0)], .88),
    ([(0, .3), (0, .95), (.35, 1.45), (2.3, 1.5), (3.05, 1.02), (3.85, .82), (4.0, .3)], [(.3, .98), (.5, 1.38),
                                                                                          (2.25, 1.42),
                                                                                          (2.85, 1.02)], .86),
    ([(0, .38), (0, 1.1), (.3, 1.66), (2.9, 1.72), (3.5, 1.12), (4.4, .98), (4.5, .38)], [(.35, 1.12), (.5, 1.58),
                                                                                          (2.8, 1.62),
                                                                                          (3.25, 1.14)], .94),
    ([(0, .35), (0, 1.15), (.06, 1.92), (3.7, 1.98), (4.35, 1.15), (4.9, .95), (5.0, .35)], [(2.6, 1.15), (2.6, 1.8),
                                                                                             (3.6, 1.82),
                                                                                             (4.1, 1.18)], .96),
)


def _wheels(pen: Pen, along: tuple, side: float, radius: float) -> None:
    for position in along:
        for size, colour in ((radius, TYRE), (radius * 0.55, (130, 132, 136))):
            circle = ring(position, radius, size, size)
            pen.polygon(np.insert(circle, 2, side, 1), colour)


def car(pen: Pen, rng: Rng, side: float, oncoming: bool) -> None:
    """``side``: which flank shows, -1 left, 1 right, 0 none."""
    outline, glass, half = pick(rng, CARS)
    paint = vary(rng, pick(rng, PAINT), 10)
    outline, glass = np.array(outline), np.array(glass)
    length, waist = outline[-1, 0], outline[:, 1].max() * 0.64
    both = np.concatenate([np.insert(outline, 2, across, 1) for across in (-half, half)])
    for across in (-half * 0.78, half * 0.78):  # wheels of the near axle
        pen.polygon([(0.3, 0, across - .12), (0.3, 0, across + .12), (0.3, .4, across + .12), (0.3, .4, across - .12)],
                    TYRE)
    pen.hull(both, paint * 0.8)
    if side:
        pen.polygon(np.insert(outline, 2, side * half, 1), paint * (0.88 if pen.sun * side < 0 else 1.06))
        pen.polygon(np.insert(glass, 2, side * half, 1), GLASS)
        middle = glass[:, 0].mean()
        pen.line([(middle, waist, side * half), (middle, glass[:, 1].max(), side * half)], 0.07, paint * 0.8)
        _wheels(pen, (0.78, length - 0.85), side * half, 0.33)
    near = outline[outline[:, 0] < 1.4]
    roof = near[near[:, 1].argmax()]
    base = near[(near[:, 1] < roof[1] - 0.3)][-1]
    lift = outline[0, 1]
    pen.polygon([(0, lift, -half), (0, lift, half), (base[0], base[1], half), (roof[0], roof[1], half * .8),
                 (roof[0], roof[1], -half * .8), (base[0], base[1], -half)], paint)
    mix = base + (roof - base) * 0.1, base + (roof - base) * 0.88
    pen.polygon([(mix[0][0], mix[0][1], -half * .86), (mix[0][0], mix[0][1], half * .86),
                 (mix[1][0], mix[1][1], half * .74), (mix[1][0], mix[1][1], -half * .74)],
                np.array(GLASS) * 1.1)
    light = (245, 240, 215) if oncoming else (190, 25, 25)
    for across in (-half, half * .68):
        pen.polygon([(0, .62, across), (0, .62, across + half * .32), (0, .8, across + half * .32), (0, .8, across)],
                    light)
    pen.polygon([(0, .46, -.26), (0, .46, .26), (0, .57, .26), (0, .57, -.26)], (230, 230, 225))
    pen.polygon([(0, lift, -half), (0, lift, half), (0, lift + .1, half), (0, lift + .1, -half)], (38, 38, 42))


def _carriage(pen: Pen, length: float, height: float, half: float, lift: float, paint: np.ndarray, side: float,
              windows: bool, near_glass: float) -> None:
    """A box on wheels, with windows along it or not."""

    def face(a0, y0, a1, y1, across):
        return [(a0, y0, across), (a1, y0, across), (a1, y1, across), (a0, y1, across)]

    corners = [(a, y, w) for a in (0, length) for y in (lift, height) for w in (-half, half)]
    for across in (-half * .75, half * .75):
        pen.polygon([(0.6, 0, across - .2), (0.6, 0, across + .2), (0.6, .6, across + .2), (0.6, .6, across - .2)],
                    TYRE)
    pen.hull(corners, paint * 0.8)
    if side:
        tone = paint * (0.85 if pen.sun * side < 0 else 1.08)
        pen.polygon(face(0, lift, length, height, side * half), tone)
        if windows:
            for start in np.arange(0.4, length - 1, 1.5):
                pen.polygon(face(start, height * .5, start + 1.25, height * .86, side * half), GLASS)
            pen.polygon(face(0, lift, length, lift + .25, side * half), tone * 0.6)
        else:
            pen.polygon(face(length * .25, height * .45, length * .7, height * .75, side * half), pick(pen.rng, VIVID))
        _wheels(pen, (1.6, length - 1.8), side * half, 0.48)
    pen.polygon([(0, lift, -half), (0, lift, half), (0, height, half), (0, height, -half)], paint)
    if near_glass:
        pen.polygon([(0, height * near_glass, -half * .88), (0, height * near_glass, half * .88),
                     (0, height * .88, half * .88), (0, height * .88, -half * .88)], GLASS)
    else:
        pen.line([(0, lift, 0), (0, height, 0)], 0.06, paint * 0.6)
        pen.line([(0, height * .96, -half * .95), (0, height * .96, half * .95)], 0.08, paint * 0.6)
    pen.polygon([(0, lift, -half), (0, lift, half), (0, lift + .22, half), (0, lift + .22, -half)], (42, 42, 46))


def truck(pen: Pen, rng: Rng, side: float, oncoming: bool) -> None:
    paint = vary(rng, pick(rng, ((225, 225, 220), (190, 160, 90), (70, 100, 140), (160, 60, 50), (120, 140, 120))))
    _carriage(pen, 7.5, 3.4, 1.2, 0.6, paint, side, False, 0.55 if oncoming else 0)
    _lights(pen, 1.2, oncoming)


def bus(pen: Pen, rng: Rng, side: float, oncoming: bool) -> None:
    paint = vary(rng, pick(rng, ((215, 190, 60), (180, 40, 45), (230, 230, 228), (50, 110, 150))))
    _carriage(pen, 11., 3.1, 1.25, 0.35, paint, side, True, 0.42)
    _lights(pen, 1.25, oncoming)


def train(pen: Pen, rng: Rng, side: float, oncoming: bool) -> None:
    """A tram."""
    paint = vary(rng, pick(rng, ((210, 205, 190), (60, 120, 70), (170, 40, 50))))
    _carriage(pen, 22., 3.5, 1.2, 0.25, paint, side, True, 0.4)
    _lights(pen, 1.2, oncoming)


def trailer(pen: Pen, rng: Rng, side: float, oncoming: bool) -> None:
    _carriage(pen, 2.6, 1.5, 0.85, 0.45, vary(rng, (130, 135, 130), 20), side, False, 0)
    _lights(pen, 0.85, False)


def _lights(pen: Pen, half: float, oncoming: bool) -> None:
    light = (245, 240, 215) if oncoming else (180, 25, 25)
    for across in (-half * .95, half * .7):
        pen.polygon([(0, .85, across), (0, .85, across + half * .25), (0, 1.08, across + half * .25),
                     (0, 1.08, across)], light)


VEHICLES = dict(car=car, truck=truck, bus=bus, train=train, trailer=trailer)
