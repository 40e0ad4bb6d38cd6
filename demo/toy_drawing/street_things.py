# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""People, two-wheelers, street furniture and other void things: drawn in metres (right, up), standing on (0, 0)."""

from .canvas import Pen, pick, ring, vary
from .palette import CLOTHES, SKIN, TYRE, VIVID, Rng, Thing


def person(pen: Pen, rng: Rng) -> None:
    top, legs, skin = vary(rng, pick(rng, CLOTHES)), vary(rng, pick(rng, CLOTHES[:6])), pick(rng, SKIN)
    step, swing = rng.uniform(0.05, 0.28), rng.uniform(-0.2, 0.2)
    pen.line([(-step, 0.05), (-0.06, 0.45), (0, 0.88)], 0.17, legs * 0.85)
    pen.line([(step, 0.05), (0.07, 0.45), (0, 0.88)], 0.17, legs)
    pen.line([(0.2, 1.36), (0.28, 1.1), (0.24 + swing, 0.82)], 0.11, top * 0.85)
    pen.polygon([(-0.2, 0.8), (0.2, 0.8), (0.23, 1.42), (0.1, 1.5), (-0.1, 1.5), (-0.23, 1.42)], top)
    if rng.random() < 0.3:  # a long coat
        pen.polygon([(-0.25, 0.45), (0.25, 0.45), (0.2, 1.1), (-0.2, 1.1)], top)
    pen.line([(-0.2, 1.38), (-0.28, 1.1), (-0.24 - swing, 0.82)], 0.11, top * 0.9)
    pen.ellipse(0, 1.63, 0.105, 0.14, skin)
    pen.polygon([(-0.11, 1.64), (-0.09, 1.77), (0.09, 1.77), (0.11, 1.64), (0, 1.72)], vary(rng, (50, 35, 25), 20))


def bicycle(pen: Pen, rng: Rng) -> None:
    paint = vary(rng, pick(rng, VIVID))
    for wheel in (-0.52, 0.52):
        pen.line(ring(wheel, 0.34, 0.32, 0.32), 0.06, TYRE, closed=True)
    pen.line([(-0.52, 0.34), (-0.1, 0.3), (0.36, 0.75), (-0.22, 0.78), (-0.1, 0.3)], 0.06, paint)
    pen.line([(-0.52, 0.34), (-0.22, 0.78), (-0.25, 0.95)], 0.05, paint)
    pen.line([(0.52, 0.34), (0.36, 0.78), (0.34, 1.02), (0.22, 1.04)], 0.05, paint * 0.7)
    pen.line([(-0.36, 0.96), (-0.12, 0.97)], 0.08, (30, 28, 28))


def cyclist(pen: Pen, rng: Rng) -> None:
    """The rider alone, over a bicycle."""
    top, legs, skin = vary(rng, pick(rng, CLOTHES)), vary(rng, pick(rng, CLOTHES[:5])), pick(rng, SKIN)
    pen.line([(-0.2, 0.98), (0.16, 0.72), (0.02, 0.3)], 0.17, legs)
    pen.line([(-0.2, 0.98), (0.08, 0.6), (-0.14, 0.42)], 0.15, legs * 0.8)
    pen.polygon([(-0.34, 0.92), (-0.06, 0.92), (0.2, 1.42), (0.06, 1.56), (-0.14, 1.5)], top)
    pen.line([(0.1, 1.42), (0.24, 1.18), (0.34, 1.05)], 0.1, top * 0.85)
    pen.ellipse(0.14, 1.68, 0.11, 0.14, skin)
    if rng.random() < 0.6:
        pen.polygon([(0.0, 1.7), (0.03, 1.83), (0.16, 1.87), (0.28, 1.76), (0.28, 1.71)], pick(rng, VIVID))


def motorcycle(pen: Pen, rng: Rng) -> None:
    paint = vary(rng, pick(rng, VIVID))
    for wheel in (-0.68, 0.68):
        pen.ellipse(wheel, 0.32, 0.32, 0.32, TYRE)
        pen.ellipse(wheel, 0.32, 0.15, 0.15, (120, 122, 125))
    pen.polygon([(-0.5, 0.3), (0.4, 0.3), (0.55, 0.75), (0.1, 0.95), (-0.3, 0.72), (-0.8, 0.8)], paint)
    pen.line([(0.68, 0.32), (0.45, 1.0), (0.3, 1.12)], 0.08, (80, 82, 85))
    pen.line([(-0.75, 0.84), (-0.1, 0.82)], 0.12, (25, 25, 28))
    pen.ellipse(0.58, 0.86, 0.1, 0.1, (235, 230, 200))


# --- void things


def waste_bin(pen: Pen, rng: Rng) -> None:
    paint = vary(rng, pick(rng, ((60, 90, 60), (70, 72, 75), (190, 110, 40), (50, 70, 110))))
    pen.polygon([(-.26, .05), (.26, .05), (.32, .9), (-.32, .9)], paint)
    pen.polygon([(-.35, .9), (.35, .9), (.3, 1.05), (-.3, 1.05)], paint * 0.7)
    pen.ellipse(-.2, .07, .08, .08, TYRE)


def crate(pen: Pen, rng: Rng) -> None:
    paint, w, h = vary(rng, (175, 140, 95), 18), rng.uniform(.3, .55), rng.uniform(.4, .8)
    pen.box(-w, 0, w, h, paint)
    pen.polygon([(-w, h), (w, h), (w * .8, h * 1.25), (-w * .8, h * 1.25)], paint * 1.15)
    pen.line([(0, 0), (0, h)], .08, paint * 0.8)


def bench(pen: Pen, rng: Rng) -> None:
    wood = vary(rng, (120, 80, 50), 14)
    for leg in (-.75, .7):
        pen.box(leg, 0, leg + .08, .5, (50, 50, 52))
    pen.box(-.9, .42, .9, .52, wood)
    for height in (.6, .74, .88):
        pen.box(-.9, height, .9, height + .09, wood * 0.9)


def hydrant(pen: Pen, rng: Rng) -> None:
    paint = vary(rng, pick(rng, ((190, 40, 35), (60, 80, 150), (220, 200, 60))))
    pen.box(-.13, 0, .13, .62, paint)
    pen.box(-.24, .38, .24, .52, paint * 0.85)
    pen.ellipse(0, .64, .15, .14, paint)


def advert(pen: Pen, rng: Rng) -> None:
    """An advertising column."""
    pen.box(-.55, 0, .55, 2.6, vary(rng, (150, 150, 140)))
    for x, y, w, h in rng.uniform((-.5, .5, .3, .4), (0, 1.6, .5, .8), (4, 4)):
        pen.box(x, y, x + w, y + h, pick(rng, VIVID))
    pen.polygon([(-.65, 2.6), (.65, 2.6), (.3, 2.95), (-.3, 2.95)], (60, 90, 80))


def planter(pen: Pen, rng: Rng) -> None:
    pen.polygon([(-.5, 0), (.5, 0), (.6, .5), (-.6, .5)], vary(rng, (150, 145, 138)))
    for x in (-.3, 0, .3):
        pen.blob(x, .7, .3, .3, vary(rng, (70, 105, 50)))


def bag(pen: Pen, rng: Rng) -> None:
    paint = vary(rng, pick(rng, VIVID[:7]))
    pen.line(ring(0, .5, .15, .2), .05, paint * 0.6, closed=True)
    pen.polygon([(-.3, 0), (.3, 0), (.26, .48), (-.24, .52)], paint)
    pen.line([(-.28, .3), (.28, .3)], .05, paint * 0.7)


def pram(pen: Pen, rng: Rng) -> None:
    paint = vary(rng, pick(rng, VIVID))
    for wheel in (-.3, .32):
        pen.line(ring(wheel, .14, .12, .12), .05, TYRE, closed=True)
    pen.line([(-.3, .2), (.3, .5)], .05, (90, 90, 92))
    pen.line([(.3, .2), (-.2, .6), (-.6, 1.0)], .05, (90, 90, 92))
    pen.polygon([(-.4, .5), (.4, .45), (.5, .75), (-.45, .75)], paint)
    pen.polygon([(0, .75), (.5, .75), (.45, 1.0), (.2, 1.12)], paint * 0.8)


def pigeon(pen: Pen, rng: Rng) -> None:
    """A small round animal on the pavement."""
    coat = vary(rng, pick(rng, ((110, 112, 125), (90, 70, 60), (190, 185, 180))))
    pen.line([(-.03, 0), (-.02, .14)], .03, (190, 90, 70))
    pen.blob(0, .22, .2, .12, coat, .1)
    pen.ellipse(.17, .34, .07, .08, coat * 0.8)
    pen.polygon([(-.15, .2), (-.36, .16), (-.3, .26)], coat * 0.7)


def trolley(pen: Pen, rng: Rng) -> None:
    """A suitcase on wheels."""
    paint = vary(rng, pick(rng, VIVID))
    pen.line([(-.15, .6), (-.15, .98), (.15, .98), (.15, .6)], .05, (70, 70, 72))
    pen.box(-.24, .06, .24, .66, paint)
    for x in (-.12, 0, .12):
        pen.line([(x, .1), (x, .62)], .03, paint * 0.75)


STATIC: dict[str, Thing] = dict(
    waste_bin=Thing(waste_bin, .7, 1.05),
    crate=Thing(crate, 1., .8),
    bench=Thing(bench, 1.8, 1.),
    hydrant=Thing(hydrant, .5, .8),
    advert=Thing(advert, 1.3, 2.9),
    planter=Thing(planter, 1.2, 1.))
DYNAMIC: dict[str, Thing] = dict(
    bag=Thing(bag, .6, .7), pram=Thing(pram, 1.1, 1.1), pigeon=Thing(pigeon, .6, .42), trolley=Thing(trolley, .5, 1.))
#: What is never put on the road itself.
ON_PAVEMENT = ('bench', 'hydrant', 'advert', 'planter')
