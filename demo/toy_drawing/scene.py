# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""A street in perspective: what stands along it, what moves on it, and the car that sees it."""

import numpy as np

from .canvas import Pen, pick, vary
from .labels import (
    ANOMALY_ID,
    BICYCLE,
    BORDER,
    BRIDGE,
    BUILDING,
    BUS,
    CAR,
    DYNAMIC_ID,
    EGO,
    FENCE,
    GUARD_RAIL,
    LIGHT,
    MOTORCYCLE,
    OUTSIDE,
    PERSON,
    POLE,
    RIDER,
    SIGN,
    STATIC_ID,
    TRAILER,
    TRAIN,
    TRUCK,
    VEGETATION,
    WALL,
)
from .objects import OBJECTS
from .palette import Thing
from .site import NEAR, Site
from .street_things import DYNAMIC, ON_PAVEMENT, STATIC, bicycle, cyclist
from .styles import develop
from .vehicles import VEHICLES

FAR = 115.
VEHICLE_IDS = dict(car=CAR, truck=TRUCK, bus=BUS, train=TRAIN, trailer=TRAILER)


class Scene(Site):
    """A street with all that is in it; drawn back to front by ``render``."""

    # --- along the street ------------------------------------------------

    def houses(self, side: int) -> None:
        rng, style = self.rng, self.style
        ahead = rng.uniform(-8, 4)
        if not style.urban:
            ahead = rng.uniform(5, 50)
        while ahead < FAR:
            length = rng.uniform(7, 18)
            if rng.random() < (.78 if style.urban else .25):
                back = (self.edge(side) + rng.uniform(0, 1.5)) if style.urban else self.half + rng.uniform(6, 14)
                self.house(side, back, ahead, ahead + length, rng.uniform(7, 17) if style.urban else rng.uniform(3, 6))
            else:
                for _ in range(rng.poisson(1.5)):
                    self.tree(side * (self.edge(side) + rng.uniform(2, 6)), max(ahead, 3) + rng.uniform(0, length))
                if rng.random() < .6 and ahead + length > NEAR + 1:
                    self.boundary(side, max(ahead, NEAR), ahead + length)
            ahead += length

    def house(self, side: int, back: float, near: float, far: float, height: float) -> None:
        if far < NEAR + 1:
            return
        rng, style = self.rng, self.style
        wall = vary(rng, pick(rng, style.facades), 14)
        trim, glass = vary(rng, wall * .7, 8), vary(rng, pick(rng, ((60, 72, 86), (96, 110, 122), (40, 44, 52))), 10)
        lit, start = (1.05 if style.sun * side < 0 else .78), max(near, NEAR)
        shop = style.urban and rng.random() < .35
        seeds = rng.random(5)

        def quads(rows: np.ndarray, columns: np.ndarray, high: float, wide: float, front: bool) -> list[np.ndarray]:
            y, z = (grid.ravel() for grid in np.meshgrid(rows, columns))
            corners = np.stack(
                [np.stack([z + dz, y + dy], 1) for dz, dy in ((0, 0), (wide, 0), (wide, high), (0, high))], 1)
            if front:
                points = np.stack([side * (back + corners[..., 0]), corners[..., 1],
                                   np.full(corners.shape[:2], start)], -1)
            else:
                points = np.stack([np.full(corners.shape[:2], side * back), corners[..., 1], corners[..., 0]], -1)
            return list(self.camera(points))

        def draw() -> None:
            x = side * back
            with Pen(self.canvas, self.camera, self.scale(start), rng, BUILDING, self.haze((start + far) / 2),
                     style.sun * .5, .05) as pen:
                if near > NEAR:
                    outer = x + side * 12
                    pen.polygon([(x, 0, near), (outer, 0, near), (outer, height, near), (x, height, near)],
                                wall * (.92 if lit < 1 else .8))
                    if not style.urban or seeds[1] < .4:  # a gable
                        pen.polygon([(x - side * .4, height, near), (outer, height, near),
                                     (outer - side * 4, height * 1.35, near)], (135, 72, 58))
                pen.polygon([(x, 0, start), (x, 0, far), (x, height, far), (x, height, start)], wall * lit)
                pen.polygon([(x, height * .965, start), (x, height * .965, far), (x, height, far), (x, height, start)],
                            trim)
                for front in (False, True):
                    if front and near <= NEAR:
                        continue
                    origin = .8 if front else near + .9
                    columns = np.arange(origin, (12 if front else far) - 1.8, 2.1 + seeds[2])
                    columns = columns[columns > NEAR + .2] if not front else columns
                    rows = np.arange(4. if shop else 1.1, height - 2, 3.)
                    if not len(columns):
                        continue
                    for polygons, colour in ((quads(rows - .12, columns - .1, 1.75, 1.3,
                                                    front), trim * lit), (quads(rows, columns, 1.5, 1.1,
                                                                                front), glass)):
                        self.canvas.fill(polygons, colour)
                    if shop and not front:
                        self.canvas.fill(quads(np.array([.5]), columns, 2.2, 1.7, front), glass * .8)
                        self.canvas.fill(
                            quads(np.array([2.9]), columns[:1], .7, far - columns[0] - .5, front),
                            vary(rng, (150, 60, 50), 40))

        self.add(far, draw)

    def boundary(self, side: int, near: float, far: float) -> None:
        """A fence, a wall, a guard rail or a hedge beside the road."""
        rng = self.rng
        kind = pick(rng, (FENCE, WALL, GUARD_RAIL, VEGETATION) if not self.style.urban else (FENCE, WALL, VEGETATION))
        height = {FENCE: 1.3, WALL: 1.6, GUARD_RAIL: .8, VEGETATION: 1.4}[kind] * rng.uniform(.85, 1.2)
        x = side * (self.edge(side) + rng.uniform(.3, 1.2))
        colour = {
            FENCE: vary(rng, (120, 100, 82), 20),
            WALL: vary(rng, (160, 150, 140), 15),
            GUARD_RAIL: vary(rng, (170, 172, 175), 8),
            VEGETATION: vary(rng, pick(rng, self.style.leaves))
        }[kind]

        def draw() -> None:

            def strip(low: float, high: float) -> list[tuple[float, float, float]]:
                steps = np.linspace(near, far, 6)
                return [(x, low, z) for z in steps] + [(x, high, z) for z in steps[::-1]]

            with Pen(self.canvas, self.camera, self.scale(near), rng, kind, self.haze(near), self.style.sun,
                     .3 if kind == VEGETATION else .06) as pen:
                if kind == GUARD_RAIL:
                    pen.polygon(strip(.45, height), colour)
                    for z in np.arange(near, far, 2.):
                        pen.polygon([(x, 0, z), (x, 0, z + .15), (x, .5, z + .15), (x, .5, z)], colour * .7)
                else:
                    pen.polygon(strip(0, height), colour)
                if kind == FENCE:
                    for z in np.arange(near + .3, far, .6):
                        pen.polygon([(x, 0, z), (x, 0, z + .22), (x, height, z + .22), (x, height, z)], colour * .72)
                elif kind == WALL:
                    pen.polygon(strip(height * .9, height), colour * 1.15)

        self.add(far, draw)

    def tree(self, right: float, ahead: float) -> None:
        rng = self.rng
        height, tone = rng.uniform(4, 8.5), vary(rng, pick(rng, self.style.leaves), 10)
        conifer, reach = rng.random() < .2, rng.uniform(1.1, 2.1)
        if ahead < (6 if abs(right) - reach < self.half else 3) or self.hides(right - reach, right + reach, ahead):
            return

        def draw() -> None:
            self.ground_shadow(right, ahead, reach * 1.5, reach * .6)
            with self.flat_pen(right, ahead, VEGETATION, texture=.18) as pen:
                pen.line([(0, 0), (.06, height * .6)], .28, (78, 62, 50))
                if conifer:
                    for level in range(4):
                        low, half = .14 + .2 * level, reach * (1 - .22 * level)
                        pen.polygon([(-half, height * low), (half, height * low), (0, height * (low + .36))],
                                    tone * (.85 + .06 * level))
                else:
                    for _ in range(11):
                        angle, far = rng.uniform(0, 6.28), rng.uniform(0, .75)
                        x, y = reach * far * np.cos(angle), height * (.66 + .24 * far * np.sin(angle))
                        pen.blob(x, y, reach * .5, height * .15, tone * rng.uniform(.72, 1.2), .3)

        self.add(ahead, draw)

    def bush(self, right: float, ahead: float) -> None:
        tone = vary(self.rng, pick(self.rng, self.style.leaves), 12)
        if self.hides(right - 1.1, right + 1.1, ahead):
            return

        def draw() -> None:
            with self.flat_pen(right, ahead, VEGETATION, texture=.2) as pen:
                for x in (-.5, .4, 0):
                    pen.blob(x, .4, .6, .5, tone * self.rng.uniform(.8, 1.15), .25)

        self.add(ahead, draw)

    def post(self, side: int, ahead: float) -> None:
        """A street lamp, a traffic light or a traffic sign, on a pole beside the road."""
        rng = self.rng
        kind = pick(rng, ('lamp', 'light', 'sign', 'sign'))
        right = side * (self.half + self.park[(side + 1) // 2] + .5)
        if not self.claim(right - .2, right + .2, ahead - .2, ahead + .2):
            return
        height = {'lamp': rng.uniform(5.5, 8), 'light': 3.3, 'sign': rng.uniform(2.4, 3)}[kind]
        grey = vary(rng, (92, 95, 98), 8)

        def draw() -> None:
            with self.flat_pen(right, ahead, POLE, flip=side > 0) as pen:
                pen.line([(0, 0), (0, height)], .13, grey)
                if kind == 'lamp':
                    pen.line([(0, height), (1.3, height + .25)], .1, grey)
                    pen.ellipse(1.45, height + .2, .32, .12, (215, 215, 200))
            if kind == 'light':
                with self.flat_pen(right, ahead, LIGHT) as pen:
                    pen.box(-.2, height - .95, .2, height + .05, (26, 28, 30))
                    lit = rng.integers(3)
                    for lamp, colour in enumerate(((60, 220, 110), (245, 190, 50), (240, 50, 45))):
                        pen.ellipse(0, height - .78 + .31 * lamp, .11, .11, colour if lamp == lit else (52, 52, 54))
            elif kind == 'sign':
                with self.flat_pen(right, ahead, SIGN) as pen:
                    middle, shape = height - .3, rng.integers(4)
                    if shape == 0:
                        pen.ellipse(0, middle, .4, .4, (205, 35, 40))
                        pen.ellipse(0, middle, .28, .28, (240, 240, 238))
                    elif shape == 1:
                        pen.polygon([(-.45, middle - .35), (.45, middle - .35), (0, middle + .45)], (205, 35, 40))
                        pen.polygon([(-.26, middle - .24), (.26, middle - .24), (0, middle + .24)], (240, 240, 235))
                    elif shape == 2:
                        pen.ellipse(0, middle, .38, .38, (35, 85, 180))
                        pen.polygon([(-.2, middle - .05), (.1, middle - .2), (.1, middle + .2)], (240, 240, 240))
                    else:
                        pen.box(-.55, middle - .3, .55, middle + .35, pick(rng, ((240, 200, 40), (40, 90, 170))))
                        pen.line([(-.4, middle), (.4, middle)], .08, (240, 240, 240))

        self.add(ahead, draw)

    def bridge(self) -> None:
        rng, ahead, colour = self.rng, self.rng.uniform(28, 60), vary(self.rng, (138, 134, 130), 10)

        def draw() -> None:
            with Pen(self.canvas, self.camera, self.scale(ahead), rng, BRIDGE, self.haze(ahead), 0, .07) as pen:
                pen.polygon([(-60, 4.8, ahead), (60, 4.8, ahead), (60, 6.6, ahead), (-60, 6.6, ahead)], colour)
                pen.polygon([(-60, 6.4, ahead), (60, 6.4, ahead), (60, 6.7, ahead), (-60, 6.7, ahead)], colour * 1.2)

        self.add(ahead, draw)

    # --- on the street ----------------------------------------------------

    def vehicle(self, kind: str, right: float, ahead: float, oncoming: bool) -> bool:
        length, half = dict(
            car=(4.6, 1.), truck=(7.7, 1.3), bus=(11.2, 1.35), train=(22.2, 1.3), trailer=(2.8, 1.))[kind]
        if not self.claim(right - half, right + half, ahead, ahead + length):
            return False
        label = VEHICLE_IDS[kind]
        ident = self.ident(label)

        def to_pixels(points: np.ndarray) -> np.ndarray:
            return self.camera(np.stack([right + points[:, 2], points[:, 1], ahead + points[:, 0]], 1))

        def draw() -> None:
            for spread, strength in ((1.25, .3), (1.02, .35)):
                corners = [(right + x * half * spread - .3 * self.style.sun * self.style.shadow, 0, z)
                           for x, z in ((-1, ahead - .1), (1, ahead - .1), (1, ahead + length), (-1, ahead + length))]
                self.canvas.shadow(self.camera(np.array(corners)), strength)
            middle = right + self.camera.curve * ahead * ahead
            side = -1 if middle > half * .6 else (1 if middle < -half * .6 else 0)
            with Pen(self.canvas, to_pixels, self.scale(ahead), self.rng, ident, self.haze(ahead), self.style.sun,
                     .03) as pen:
                VEHICLES[kind](pen, self.rng, side, oncoming)

        self.add(ahead, draw)
        return True

    def thing(self,
              thing: Thing,
              label: int,
              right: float,
              ahead: float,
              size: float = 1.,
              ident: int | None = None,
              keep: bool = False,
              depth: float = .5) -> bool:
        half = thing.width * size / 2
        if not self.claim(right - half, right + half, ahead - depth, ahead + depth, keep):
            return False
        ident = label if ident is None else ident
        flip = bool(self.rng.random() < .5)

        def draw() -> None:
            self.ground_shadow(right, ahead, thing.width * size, .22 * min(thing.width, 1.6) * size)
            with self.flat_pen(right, ahead, ident, size, flip) as pen:
                thing.draw(pen, self.rng)

        self.add(ahead, draw)
        return True

    def rider(self, right: float, ahead: float) -> None:
        if not self.claim(right - .8, right + .8, ahead - .5, ahead + .5):
            return
        idents, flip = (self.ident(BICYCLE), self.ident(RIDER)), bool(self.rng.random() < .5)

        def draw() -> None:
            self.ground_shadow(right, ahead, 1.5, .3)
            for ident, stroke in zip(idents, (bicycle, cyclist)):
                with self.flat_pen(right, ahead, ident, 1., flip) as pen:
                    stroke(pen, self.rng)

        self.add(ahead, draw)

    # --- putting it together -------------------------------------------------

    def pavement(self) -> tuple[float, int]:
        """Metres to the right of a random place beside the road, and its side."""
        side = int(pick(self.rng, (-1, 1)))
        return side * self.rng.uniform(
            self.edge(side) - self.walk[(side + 1) // 2] + .4, max(self.edge(side) - .2, self.half + 1.2)), side

    def distance(self, near: float = 6., far: float = 45.) -> float:
        """Metres ahead, denser where it is near."""
        return float(near * (far / near)**self.rng.random())

    def populate(self) -> None:
        rng, style = self.rng, self.style
        for side in (-1, 1):
            self.houses(side)
            for _ in range(rng.poisson(style.trees / 2)):
                self.tree(side * (self.edge(side) - rng.uniform(0, 1) + (0 if style.urban else rng.uniform(1, 12))),
                          self.distance(7, 90))
            for _ in range(rng.poisson(1.5 if style.urban else 4)):
                self.bush(side * (self.edge(side) + rng.uniform(.5, 4)), self.distance(5, 60))
            for _ in range(rng.poisson(3 if style.urban else .7)):
                self.post(side, self.distance(7, 55))
        if style.urban and rng.random() < .07:
            self.bridge()
        self.traffic()
        if style.void:
            self.void_things()

    def traffic(self) -> None:
        rng, style = self.rng, self.style
        for _ in range(rng.poisson(style.traffic)):
            kind = str(rng.choice(('car', 'truck', 'bus', 'train', 'trailer'), p=(.78, .1, .07, .03, .02)))
            oncoming = bool(rng.random() < .45)
            lane = (-.5 if oncoming else .5) * self.half + rng.uniform(-.3, .3)
            self.vehicle(kind, lane, self.distance(9 if kind == 'car' else 14, 70), oncoming)
        if style.urban and self.half > 4.2:
            for side in (-1, 1):
                if rng.random() < .6:  # parked along the kerb
                    ahead = rng.uniform(6, 14)
                    while ahead < 70:
                        if rng.random() < .65:
                            place = side * (self.half + (1.1 if self.park[(side + 1) // 2] else -1.05))
                            self.vehicle('car', place, ahead, bool(rng.random() < .3))
                        ahead += rng.uniform(5.5, 8)
        for _ in range(rng.poisson(style.people)):
            right, _ = self.pavement()
            if rng.random() < .12:
                right = rng.uniform(-self.half, self.half)
            self.thing(
                OBJECTS[1, 'person'],
                PERSON,
                right,
                self.distance(7, 40),
                rng.uniform(.88, 1.06),
                self.ident(PERSON),
                depth=.3)
        for _ in range(rng.poisson(.25 * style.people)):
            if rng.random() < .55:
                self.rider(rng.uniform(-self.half + .6, self.half - .6), self.distance(8, 35))
            else:
                key, label = pick(rng, (((2, 'bicycle'), BICYCLE), ((4, 'motorcycle'), MOTORCYCLE)))
                self.thing(OBJECTS[key], label, self.pavement()[0], self.distance(7, 30), 1., self.ident(label))

    def void_things(self) -> None:
        rng = self.rng
        for table, label, chance, most in ((STATIC, STATIC_ID, .8, 4), (DYNAMIC, DYNAMIC_ID, .75, 4)):
            if rng.random() > chance:
                continue
            for _ in range(int(rng.integers(1, most + 1))):
                name, (right, _) = pick(rng, tuple(table)), self.pavement()
                if name not in ON_PAVEMENT and rng.random() < .45:
                    right = rng.uniform(-self.half, self.half)
                self.thing(table[name], label, right, self.distance(5.5, 22), rng.uniform(.8, 1.25))

    def anomalies(self, table: dict, count: int, near: float, far: float, sizes: tuple[float, float]) -> None:
        """Place ``count`` anomalies on or beside the road, in full view."""
        placed, tries = 0, 0
        while placed < count and tries < 200:
            tries += 1
            reach = self.half * (.95 if tries < 100 else .6)
            thing = table[pick(self.rng, tuple(table))]
            placed += self.thing(
                thing,
                ANOMALY_ID,
                self.rng.uniform(-reach, reach),
                self.distance(near, far),
                self.rng.uniform(*sizes),
                keep=True)

    def render(self) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, 3) uint8 BGR and ids (H, W) uint16."""
        self.sky()
        self.skyline()
        self.ground()
        for item in sorted(self.items, key=lambda item: -item.ahead):
            item.draw()
        if self.style.ego:
            self.own_car()
        image, ids = self.canvas.result()
        if self.style.ego:
            image, ids = frame(image, ids)
        return develop(self.rng, image, self.style.gain, self.style.gamma, self.style.grain), ids

    def own_car(self) -> None:
        """The bonnet of the car that carries the camera: the same in all images."""
        h, w = self.canvas.height, self.canvas.width
        x = np.linspace(-.02, 1.02, 30)
        top = h * (.905 + .085 * np.abs(2 * x - 1)**2.6)
        with Pen(self.canvas, lambda points: points, 1, self.rng, EGO, sun=self.style.sun, texture=.02) as pen:
            outline = np.concatenate([np.stack([x * w, top], 1), [(1.02 * w, h + 4), (-.02 * w, h + 4)]])
            pen.polygon(outline, (58, 60, 66))
            pen.polygon(
                np.concatenate([np.stack([x * w, top], 1),
                                np.stack([x * w, top + .02 * h], 1)[::-1]]),
                np.asarray(self.style.sky[1]) * .62)
            pen.ellipse(.5 * w, .945 * h, .012 * w, .016 * w, (176, 178, 182))


def frame(image: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The dark rim that rectifying leaves, and the columns out of the region of interest."""
    edge = max(1, ids.shape[1] // 256)
    image[:edge] *= .25
    ids[:edge] = BORDER
    for columns in (slice(None, edge), slice(-edge, None)):
        ids[:, columns] = OUTSIDE
        image[:, columns] *= .6
    return image, ids
