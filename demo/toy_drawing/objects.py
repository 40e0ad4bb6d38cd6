# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Objects of the object images, in metres (right, up): kinds that Cityscapes does not know, and some that it does."""

import numpy as np

from .canvas import Pen, pick, vary
from .palette import VIVID, Rng, Thing
from .street_things import bicycle, motorcycle, person


def dog(pen: Pen, rng: Rng) -> None:
    coat = vary(rng, pick(rng, ((150, 105, 60), (60, 45, 38), (225, 215, 195), (190, 140, 80))))
    for leg in (-.32, -.22, .22, .32):
        pen.line([(leg, 0), (leg, .35)], .09, coat * 0.85)
    pen.blob(0, .45, .42, .17, coat, .08)
    pen.line([(-.38, .5), (-.55, .72)], .06, coat)
    pen.ellipse(.45, .68, .16, .13, coat)
    pen.ellipse(.6, .63, .1, .07, coat * 0.9)
    pen.polygon([(.33, .74), (.45, .78), (.34, .52)], coat * 0.6)
    if rng.random() < .4:
        pen.pattern('patches', coat * 0.5, .3, share=.45)


def umbrella(pen: Pen, rng: Rng) -> None:
    first, second = vary(rng, pick(rng, VIVID)), vary(rng, pick(rng, VIVID))
    pen.line([(0, .05), (0, 1.2)], .04, (70, 50, 40))
    angle = np.linspace(0, np.pi, 9)
    rim = np.stack([.75 * np.cos(angle), .85 + .5 * np.sin(angle)], 1)
    for k in range(8):
        pen.polygon([rim[k], rim[k + 1], (0, .85 + .06 * (k % 2))], first if k % 2 else second)


def ball(pen: Pen, rng: Rng) -> None:
    pen.ellipse(0, .4, .4, .4, vary(rng, (235, 235, 230), 8))
    pen.pattern(pick(rng, ('patches', 'dots', 'checks')), vary(rng, pick(rng, VIVID)), .28)


def kite(pen: Pen, rng: Rng) -> None:
    first, second = vary(rng, pick(rng, VIVID)), vary(rng, pick(rng, VIVID))
    pen.polygon([(0, .5), (.5, 1.2), (0, 1.6), (-.5, 1.2)], first)
    pen.polygon([(0, .5), (.5, 1.2), (0, 1.2)], second)
    pen.polygon([(0, 1.6), (-.5, 1.2), (0, 1.2)], second)
    pen.line([(0, .5), (.15, .32), (-.05, .18), (.1, 0)], .04, first * 0.7)


def bottle(pen: Pen, rng: Rng) -> None:
    glass = vary(rng, pick(rng, ((40, 90, 50), (120, 70, 30), (90, 140, 170))))
    pen.polygon([(-.2, 0), (.2, 0), (.2, .62), (.08, .82), (.08, 1.05), (-.08, 1.05), (-.08, .82), (-.2, .62)], glass)
    pen.box(-.2, .2, .2, .5, vary(rng, pick(rng, VIVID)))
    pen.box(-.09, 1.02, .09, 1.1, (200, 180, 80))


def banana(pen: Pen, rng: Rng) -> None:
    angle = np.linspace(-2.7, -.4, 12)
    outer = np.stack([.6 * np.cos(angle), .65 + .6 * np.sin(angle)], 1)
    inner = np.stack([.55 * np.cos(angle), .85 + .55 * np.sin(angle)], 1)
    pen.polygon(np.concatenate([outer, inner[::-1]]), vary(rng, (230, 200, 60), 10))
    pen.line(outer[[0, 1]], .07, (100, 80, 40))


def pizza(pen: Pen, rng: Rng) -> None:
    pen.ellipse(0, .4, .6, .4, vary(rng, (200, 150, 80), 8))
    pen.ellipse(0, .41, .52, .33, vary(rng, (230, 190, 90), 8))
    for angle, radius in zip(rng.uniform(0, 6.3, 9), rng.uniform(.1, .4, 9)):
        pen.ellipse(radius * np.cos(angle), .41 + .6 * radius * np.sin(angle), .08, .055, (170, 45, 35))


def chair(pen: Pen, rng: Rng) -> None:
    wood = vary(rng, pick(rng, ((140, 95, 55), (60, 60, 64), (210, 200, 185), (160, 50, 45))))
    for x0, x1 in ((-.28, -.3), (.28, .3), (-.16, -.14), (.38, .42)):
        pen.line([(x0, .45), (x1, 0)], .06, wood * 0.8)
    pen.polygon([(-.3, .44), (.3, .44), (.42, .54), (-.18, .54)], wood)
    for height in (.7, .88, 1.02):
        pen.line([(-.22, height), (.36, height)], .08, wood)
    pen.line([(-.22, .5), (-.24, 1.08)], .06, wood * 0.9)
    pen.line([(.38, .5), (.36, 1.08)], .06, wood * 0.9)


def potted_plant(pen: Pen, rng: Rng) -> None:
    for angle in np.linspace(.4, 2.7, 8) + rng.uniform(-.15, .15, 8):
        length = rng.uniform(.5, .75)
        pen.ellipse(.5 * length * np.cos(angle), .4 + .5 * length * np.sin(angle), .5 * length, .09,
                    vary(rng, (70, 130, 60), 14), angle)
    pen.polygon([(-.2, 0), (.2, 0), (.28, .42), (-.28, .42)], vary(rng, (175, 95, 60)))


def television(pen: Pen, rng: Rng) -> None:
    pen.box(-.5, .1, .5, .78, (32, 32, 36))
    pen.box(-.45, .15, .45, .73, vary(rng, pick(rng, VIVID), 20))
    pen.polygon([(-.45, .15), (.1, .15), (.45, .5), (.45, .15)], vary(rng, pick(rng, VIVID), 20))
    pen.polygon([(-.2, 0), (.2, 0), (.08, .1), (-.08, .1)], (50, 50, 54))


def teddy(pen: Pen, rng: Rng) -> None:
    fur = vary(rng, pick(rng, ((150, 105, 60), (205, 175, 130), (120, 75, 50), (215, 150, 165))))
    for x in (-1, 1):
        pen.ellipse(.2 * x, .14, .16, .13, fur * 0.9)
        pen.ellipse(.32 * x, .5, .1, .18, fur * 0.92, .5 * x)
        pen.ellipse(.17 * x, 1.02, .09, .09, fur * 0.8)
    pen.ellipse(0, .4, .28, .32, fur)
    pen.ellipse(0, .38, .16, .2, fur * 1.2)
    pen.ellipse(0, .85, .24, .22, fur)
    pen.ellipse(0, .79, .1, .08, fur * 1.25)
    for x in (-.09, 0, .09):
        pen.ellipse(x, .83 if x == 0 else .9, .03, .03, (20, 18, 18))


def vase(pen: Pen, rng: Rng) -> None:
    y = np.linspace(0, 1, 12)
    half = .12 + .2 * np.sin(np.pi * np.clip(y * 1.15, 0, 1))**2 + .06 * y
    pen.polygon(np.concatenate([np.stack([half, y], 1), np.stack([-half, y], 1)[::-1]]), vary(rng, pick(rng, VIVID)))
    pen.pattern(pick(rng, ('stripes', 'dots')), vary(rng, pick(rng, VIVID)), .22, np.pi / 2, .4)


def clock(pen: Pen, rng: Rng) -> None:
    pen.ellipse(0, .5, .5, .5, vary(rng, pick(rng, VIVID)))
    pen.ellipse(0, .5, .4, .4, (240, 238, 228))
    hour = rng.uniform(0, 6.28)
    pen.line([(0, .5), (.22 * np.cos(hour), .5 + .22 * np.sin(hour))], .07, (30, 30, 30))
    pen.line([(0, .5), (.34 * np.cos(hour * 5), .5 + .34 * np.sin(hour * 5))], .04, (30, 30, 30))


#: COCO category id and name -> thing; ``None`` marks a vehicle, drawn in perspective.
OBJECTS: dict[tuple, Thing] = {
    (1, 'person'): Thing(person, .7, 1.8),
    (2, 'bicycle'): Thing(bicycle, 1.7, 1.1),
    (3, 'car'): Thing(None, 2., 1.5),
    (4, 'motorcycle'): Thing(motorcycle, 2., 1.2),
    (6, 'bus'): Thing(None, 2.6, 3.1),
    (8, 'truck'): Thing(None, 2.6, 3.4),
    (18, 'dog'): Thing(dog, 1.2, .85),
    (28, 'umbrella'): Thing(umbrella, 1.5, 1.4),
    (37, 'sports ball'): Thing(ball, .8, .8),
    (38, 'kite'): Thing(kite, 1., 1.6),
    (44, 'bottle'): Thing(bottle, .4, 1.1),
    (52, 'banana'): Thing(banana, 1.2, .7),
    (59, 'pizza'): Thing(pizza, 1.2, .8),
    (62, 'chair'): Thing(chair, .8, 1.1),
    (64, 'potted plant'): Thing(potted_plant, 1.3, 1.1),
    (72, 'tv'): Thing(television, 1., .8),
    (85, 'clock'): Thing(clock, 1., 1.),
    (86, 'vase'): Thing(vase, .7, 1.),
    (88, 'teddy bear'): Thing(teddy, .8, 1.1)
}
