# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Anomalies of the two test sets, in metres (right, up). They are drawn nowhere else."""

import numpy as np

from .canvas import Pen, pick, ring, vary
from .palette import GLASS, VIVID, Rng, Thing


def llama(pen: Pen, rng: Rng) -> None:
    """A long-necked animal with a thick coat."""
    coat = vary(rng, pick(rng, ((205, 180, 140), (120, 80, 55), (235, 230, 215), (80, 70, 68))))
    for leg, lean in zip((-.5, -.32, .3, .48), rng.uniform(-.1, .1, 4)):
        pen.line([(leg + lean, 0), (leg, .8)], .13, coat * 0.75)
    pen.blob(0, 1.0, .68, .36, coat, .1, 18)
    pen.line([(.5, 1.15), (.72, 1.5), (.74, 1.95)], .24, coat)
    pen.ellipse(.84, 2.0, .24, .12, coat * 0.95, -.15)
    for ear in (.68, .78):
        pen.line([(ear, 2.05), (ear - .03, 2.26)], .06, coat * 0.8)
    pen.line([(-.66, 1.1), (-.78, .8)], .1, coat * 0.8)


def zebu(pen: Pen, rng: Rng) -> None:
    """A humped, horned, patched animal."""
    coat = vary(rng, pick(rng, ((215, 205, 190), (110, 65, 40), (60, 52, 50), (170, 125, 85))))
    for leg, lean in zip((-.72, -.52, .45, .66), rng.uniform(-.12, .12, 4)):
        pen.line([(leg + lean, 0), (leg + lean / 2, .35), (leg, .75)], .16, coat * 0.8)
    pen.polygon([(-.95, .7), (.8, .62), (.95, 1.2), (.62, 1.52), (.38, 1.62), (.2, 1.42), (-.85, 1.4), (-1., 1.1)],
                coat)
    pen.polygon([(.75, 1.0), (1.2, .8), (1.42, .92), (1.3, 1.28), (.9, 1.42)], coat * 0.92)
    if rng.random() < .6:
        pen.pattern('patches', vary(rng, (60, 40, 32)), .7, share=.35)
    pen.line([(1.2, 1.28), (1.1, 1.6), (1.26, 1.75)], .07, (225, 215, 190))
    pen.line([(-.96, 1.25), (-1.1, .6)], .07, coat * 0.6)


def boulder(pen: Pen, rng: Rng) -> None:
    stone = vary(rng, pick(rng, ((130, 125, 118), (150, 125, 100), (95, 95, 100))))
    pen.blob(0, .62, .9, .66, stone, .16, 11)
    pen.polygon([(-.6, .5), (-.1, .75), (.2, 1.15), (-.4, 1.1)], stone * 1.16)
    pen.polygon([(.2, .1), (.75, .3), (.6, .8), (.1, .6)], stone * 0.78)
    pen.line([(-.5, .3), (-.1, .5), (.1, .2)], .03, stone * 0.6)


def tyre(pen: Pen, rng: Rng) -> None:
    pen.line(ring(0, .4, .3, .3), .2, vary(rng, (34, 34, 36), 6), closed=True)
    pen.line(ring(0, .4, .37, .37), .04, (62, 62, 64), closed=True)


def tyre_stack(pen: Pen, rng: Rng) -> None:
    for level in range(int(rng.integers(2, 5))):
        shift, dark = rng.uniform(-.08, .08), vary(rng, (40, 40, 42), 6)
        pen.ellipse(shift, .16 + .24 * level, .5, .17, dark)
        pen.ellipse(shift, .22 + .24 * level, .44, .12, dark * 1.5)
        pen.ellipse(shift, .22 + .24 * level, .24, .07, (16, 16, 18))


def boat(pen: Pen, rng: Rng) -> None:
    hull = vary(rng, pick(rng, ((230, 228, 220), (40, 80, 120), (165, 45, 40), (225, 165, 60))))
    pen.polygon([(-1.6, .75), (-1.35, .1), (1.0, .1), (1.9, .95)], hull)
    pen.polygon([(-1.62, .75), (1.9, .95), (1.8, .82), (-1.58, .62)], hull * 0.6)
    pen.polygon([(-.5, .8), (.55, .86), (.35, 1.35), (-.45, 1.3)], vary(rng, (210, 200, 180)))
    pen.polygon([(-.3, .95), (.3, 1.0), (.22, 1.25), (-.28, 1.22)], GLASS)
    pen.line([(.8, .9), (.8, 2.0)], .06, (120, 90, 60))


def log(pen: Pen, rng: Rng) -> None:
    bark, lean = vary(rng, (95, 72, 52), 10), rng.uniform(-.12, .12)
    pen.line([(-.9, .8), (-.5, .35)], .1, bark * 0.85)
    pen.line([(.4, .75), (.55, .35)], .08, bark * 0.85)
    pen.polygon([(-1.4, .02 - lean), (1.3, .02 + lean), (1.3, .46 + lean), (-1.4, .42 - lean)], bark)
    pen.pattern('stripes', bark * 0.75, .16, .15, .3)
    pen.ellipse(1.3, .24 + lean, .14, .23, (195, 160, 110))
    pen.ellipse(1.3, .24 + lean, .07, .12, (160, 120, 80))


def tent(pen: Pen, rng: Rng) -> None:
    cloth = vary(rng, pick(rng, ((60, 120, 90), (220, 130, 40), (80, 100, 150), (190, 180, 150))))
    pen.polygon([(-1.3, 0), (.5, 0), (-.35, 1.35)], cloth)
    pen.polygon([(.5, 0), (1.4, .25), (.7, 1.4), (-.35, 1.35)], cloth * 0.75)
    pen.polygon([(-.65, 0), (-.1, 0), (-.36, .95)], cloth * 0.35)


def hedgehog(pen: Pen, rng: Rng) -> None:
    """Three crossed beams, as against tanks."""
    beam = vary(rng, pick(rng, ((175, 135, 90), (110, 70, 55), (90, 92, 98))))
    pen.line([(-.8, 0), (.7, 1.35)], .2, beam * 0.8)
    pen.line([(.85, .05), (-.65, 1.3)], .2, beam)
    pen.line([(-.25, .0), (.2, 1.5)], .2, beam * 1.15)


def roadblock(pen: Pen, rng: Rng) -> None:
    """A concrete block painted in warning stripes."""
    pen.polygon([(-1., 0), (1., 0), (.85, .4), (.75, .85), (-.75, .85), (-.85, .4)], vary(rng, (190, 186, 178), 8))
    pen.pattern('stripes', pick(rng, ((200, 60, 40), (40, 42, 46))), .5, .7)


def cone(pen: Pen, rng: Rng) -> None:
    paint = vary(rng, pick(rng, ((235, 95, 30), (225, 70, 50), (230, 200, 50))), 8)
    pen.polygon([(-.3, 0), (.3, 0), (.3, .07), (-.3, .07)], paint * 0.7)
    pen.polygon([(-.21, .07), (.21, .07), (.04, .75), (-.04, .75)], paint)
    for low, high in ((.22, .34), (.46, .56)):
        a, b = .21 - .25 * (low - .07), .21 - .25 * (high - .07)
        pen.polygon([(-a, low), (a, low), (b, high), (-b, high)], (240, 238, 232))


def rubble(pen: Pen, rng: Rng) -> None:
    """A heap of stones."""
    for x, y, r in zip(rng.uniform(-.4, .4, 7), rng.uniform(.08, .3, 7), rng.uniform(.12, .22, 7)):
        pen.blob(x, y, r, r * .75, vary(rng, (135, 122, 108), 18), .25, 8)


def balloon(pen: Pen, rng: Rng) -> None:
    pen.ellipse(0, .62, .3, .36, vary(rng, pick(rng, VIVID)))
    pen.pattern('stripes', vary(rng, pick(rng, VIVID)), .2, rng.uniform(-.5, .5))
    pen.line([(0, .26), (.05, .12), (-.03, 0)], .03, (70, 70, 70))


def pallet(pen: Pen, rng: Rng) -> None:
    wood = vary(rng, (185, 150, 100), 10)
    pen.polygon([(-.6, .16), (.6, .16), (.45, .3), (-.45, .3)], wood)
    for x in (-.6, -.08, .44):
        pen.box(x, 0, x + .16, .14, wood * 0.75)
    for y in (0, .12):
        pen.box(-.6, y, .6, y + .05, wood * 0.9)


def barrel(pen: Pen, rng: Rng) -> None:
    paint = vary(rng, pick(rng, ((60, 100, 140), (170, 70, 45), (110, 115, 60))))
    pen.polygon([(-.3, .04), (0, 0), (.3, .04), (.34, .45), (.3, .86), (-.3, .86), (-.34, .45)], paint)
    for y in (.3, .58):
        pen.box(-.33, y, .33, y + .05, paint * 0.6)
    pen.ellipse(0, .86, .3, .08, paint * 1.25)


def ladder(pen: Pen, rng: Rng) -> None:
    """A ladder that lies across the road."""
    metal, lean = vary(rng, (175, 178, 182), 10), rng.uniform(.05, .3)
    for x in np.linspace(-.9, .9, 7):
        pen.line([(x, .05 + lean * (x + 1) / 2), (x + .1, .3 + lean * (x + 1) / 2)], .05, metal * 0.8)
    pen.line([(-1, .05), (1, .05 + lean)], .06, metal)
    pen.line([(-.9, .3), (1.1, .3 + lean)], .06, metal)


def tortoise(pen: Pen, rng: Rng) -> None:
    shell = vary(rng, (95, 85, 45), 14)
    for x in (-.28, .22):
        pen.ellipse(x, .07, .1, .08, shell * 1.4)
    pen.ellipse(.45, .2, .12, .09, shell * 1.4)
    angle = np.linspace(0, np.pi, 12)
    pen.polygon(np.stack([.42 * np.cos(angle), .08 + .34 * np.sin(angle)], 1), shell)
    pen.line([(-.2, .1), (-.1, .38), (.12, .38), (.2, .1)], .03, shell * 0.5)


ROAD_ANOMALIES: dict[str, Thing] = dict(
    llama=Thing(llama, 1.7, 2.2),
    zebu=Thing(zebu, 2.4, 1.7),
    boulder=Thing(boulder, 1.9, 1.3),
    tyre_stack=Thing(tyre_stack, 1.1, 1.),
    boat=Thing(boat, 3.6, 1.8),
    log=Thing(log, 2.8, .8),
    tent=Thing(tent, 2.7, 1.4),
    hedgehog=Thing(hedgehog, 1.7, 1.5),
    roadblock=Thing(roadblock, 2., .85))
LOST_CARGO: dict[str, Thing] = dict(
    cone=Thing(cone, .6, .75),
    rubble=Thing(rubble, 1.1, .5),
    tyre=Thing(tyre, .8, .8),
    balloon=Thing(balloon, .6, 1.),
    pallet=Thing(pallet, 1.2, .3),
    barrel=Thing(barrel, .7, .95),
    ladder=Thing(ladder, 2., .6),
    tortoise=Thing(tortoise, 1., .42))
