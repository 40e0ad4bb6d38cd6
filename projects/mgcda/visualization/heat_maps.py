# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Heat maps, overlays, contours and boxes. Images are BGR uint8 (H, W, 3), heat is float (H, W) in [0, 1]."""
from collections.abc import Sequence

import cv2
import numpy as np

#: BGR; neither is in the colour map.
GREEN = (80, 220, 60)
CYAN = (230, 220, 40)


def colour_heat(heat: np.ndarray) -> np.ndarray:
    """Heat in the colours of the map 'inferno', black to light yellow."""
    return cv2.applyColorMap(np.rint(255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)


def blend_heat(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The image under its heat map, which covers 80 % of a pixel of heat 1, and nothing of one of heat 0."""
    weight = (0.8 * heat)[..., None].astype(np.float32)
    return np.rint(image + weight * (colour_heat(heat).astype(np.float32) - image)).astype(np.uint8)


def draw_boxes(image: np.ndarray, boxes: Sequence[dict]) -> np.ndarray:
    """The image with boxes of components, as ``mgcda.apis`` finds them, each with its largest score."""
    image = image.copy()
    thickness, scale = _line_width(image), max(min(image.shape[:2]) / 1200, 0.35)
    for box in boxes:
        x, y, width, height = box['box']
        cv2.rectangle(image, (x, y), (x + width - 1, y + height - 1), GREEN, thickness)
        text = f'{box["max_score"]:.3g}'
        (_, text_height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
        base = y - 2 * thickness if y >= text_height + 4 * thickness else y + text_height + 3 * thickness
        cv2.putText(image, text, (x + thickness, base), cv2.FONT_HERSHEY_SIMPLEX, scale, GREEN, thickness, cv2.LINE_AA)
    return image


def draw_contours(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image with the contours of a mask, bool (H, W)."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(image.copy(), contours, -1, CYAN, _line_width(image))


def _line_width(image: np.ndarray) -> int:
    return max(round(min(image.shape[:2]) / 400), 1)
