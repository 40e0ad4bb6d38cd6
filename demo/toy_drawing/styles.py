# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Styles of the toy scenes: palettes, weather, cameras, and how much stands in the street.

Training scenes, and the scenes of each of the two test sets, have a style of their own.
"""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .canvas import Colour, pick, vary


@dataclass
class Style:
    """Palette, weather, camera and contents of a scene. Densities are things to a scene."""
    sky: tuple[Colour, Colour]
    road: Colour
    walk: Colour
    soil: Colour
    facades: Sequence[Colour]
    leaves: Sequence[Colour]
    cloud: tuple[Colour, float] = ((236, 238, 240), 0.4)
    haze: float = 0.004
    sun: float = 0.5
    shadow: float = 0.4
    gain: Colour = (1., 1., 1.)
    gamma: float = 1.
    grain: float = 2.2
    rain: float = 0.
    camera_height: tuple[float, float] = (1.2, 1.5)
    horizon: tuple[float, float] = (0.40, 0.47)
    half_road: tuple[float, float] = (3.4, 6.2)
    urban: bool = True
    dirt: bool = False
    lanes: bool = True
    void: bool = True
    ego: bool = True
    traffic: float = 4.
    people: float = 4.
    trees: float = 4.


FACADES = ((176, 160, 140), (150, 120, 100), (190, 182, 168), (130, 132, 138), (165, 110, 90), (200, 178, 140),
           (120, 105, 98))
LEAVES = ((70, 105, 52), (88, 116, 60), (52, 84, 48), (104, 122, 66))


def training_style(rng: np.random.Generator) -> Style:
    """A town by day: sunny, overcast or late in the afternoon."""
    style = Style(((120, 160, 205), (208, 220, 228)),
                  vary(rng, (98, 98, 102), 9),
                  vary(rng, (140, 134, 130), 9),
                  vary(rng, (112, 124, 70), 10),
                  FACADES,
                  LEAVES,
                  sun=float(pick(rng, (-1, 1)) * rng.uniform(.3, 1)),
                  haze=float(rng.uniform(.002, .008)),
                  urban=rng.random() < .8,
                  traffic=rng.uniform(2, 8),
                  people=rng.uniform(1, 7),
                  trees=rng.uniform(2, 8),
                  gamma=float(rng.uniform(.9, 1.15)))
    weather = rng.integers(3)
    if weather == 1:
        style.sky, style.shadow, style.gain = ((190, 195, 200), (222, 224, 226)), .12, (.94, .95, .97)
        style.cloud = ((208, 210, 214), .9)
    elif weather == 2:
        style.sky, style.gain = ((140, 155, 190), (240, 205, 165)), (1.06, .97, .86)
    return style


def country_style(rng: np.random.Generator) -> Style:
    """Roads out of town, some of them dirt, at dusk, in fog or under a hard sun, from a higher camera."""
    dirt = rng.random() < .45
    road = (158, 128, 96) if dirt else pick(rng, ((120, 112, 106), (84, 86, 92)))
    style = Style(((96, 140, 210), (205, 218, 235)),
                  vary(rng, road, 10),
                  vary(rng, (150, 135, 112), 9),
                  vary(rng, pick(rng, ((150, 142, 82), (120, 132, 74), (176, 150, 105))),
                       10), ((215, 205, 190), (200, 150, 115), (160, 95, 75), (235, 230, 222)),
                  ((98, 112, 52), (130, 124, 60), (58, 92, 60), (150, 110, 50)),
                  sun=float(pick(rng, (-1, 1)) * rng.uniform(.4, 1.3)),
                  shadow=.5,
                  camera_height=(1.4, 2.4),
                  horizon=(.33, .47),
                  half_road=(2.4, 4.2),
                  urban=rng.random() < .25,
                  dirt=dirt,
                  lanes=not dirt and rng.random() < .8,
                  void=False,
                  ego=False,
                  traffic=rng.uniform(0, 2),
                  people=rng.uniform(0, 1.5),
                  trees=rng.uniform(3, 10),
                  grain=3.)
    weather = rng.integers(4)
    if weather == 0:  # dusk
        style.sky, style.gain, style.gamma = ((80, 88, 135), (238, 175, 130)), (1., .84, .84), 1.05
    elif weather == 1:  # fog
        style.sky, style.haze, style.shadow = ((196, 200, 202), (206, 208, 208)), float(rng.uniform(.018, .03)), .1
    elif weather == 2:  # hard light
        style.gain, style.gamma = (1.15, 1.1, .98), 1.25
    return style


def foreign_style(rng: np.random.Generator) -> Style:
    """Another town, near to the training scenes: wet or evening streets, other facades, another white balance."""
    style = training_style(rng)
    style.facades = ((140, 70, 55), (95, 110, 130), (225, 220, 205), (150, 140, 95), (80, 84, 96))
    style.leaves = ((80, 96, 40), (126, 108, 50), (60, 92, 66))
    style.road = vary(rng, pick(rng, ((78, 80, 90), (124, 118, 112), (100, 94, 98))), 8)
    style.camera_height, style.horizon, style.void = (1.3, 1.8), (.36, .46), False
    style.gain, style.grain = tuple(rng.uniform(.86, 1.06) * rng.uniform(.95, 1.05, 3)), float(rng.uniform(2.5, 5))
    style.rain = float(rng.uniform(.15, .35)) if rng.random() < .4 else 0.
    style.haze *= float(rng.uniform(1, 2.2))
    style.gamma = float(rng.uniform(.85, 1.35))
    return style


def develop(rng: np.random.Generator, image: np.ndarray, gain: Colour, gamma: float, grain: float) -> np.ndarray:
    """Light, contrast, vignette and grain; RGB float32 to BGR uint8."""
    height, width = image.shape[:2]
    y, x = np.ogrid[-1:1:height * 1j, -1:1:width * 1j]
    image = image * (1 - .09 * (x * x + y * y)).astype(np.float32)[..., None] * np.asarray(gain, np.float32)
    image = 255 * np.clip(image / 255, 0, 1)**np.float32(gamma)
    image += grain * rng.standard_normal((height, width, 1), dtype=np.float32)
    image += .4 * grain * rng.standard_normal((height, width, 3), dtype=np.float32)
    return np.ascontiguousarray(np.clip(image, 0, 255)[..., ::-1]).astype(np.uint8)
