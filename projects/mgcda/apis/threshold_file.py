# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Thresholds on disk, to be used again with the model that they belong to."""
import json
from typing import Any

from mgcda.models.fitted_scores.score_file import fingerprint
from mgcda.utils.files import write_file

from .anomaly_inferencer import AnomalyInferencer
from .calibration import Calibration


def write_threshold(path: str, calibration: Calibration, inferencer: AnomalyInferencer) -> None:
    """Write a threshold, what it was found on, and which score of which weights it is of."""
    content = dict(
        format=1, **calibration._asdict(), score=inferencer.score_name, fingerprint=fingerprint(inferencer.model))
    write_file(path, json.dumps(content, indent=1).encode())


def read_threshold(path: str) -> dict[str, Any]:
    """Content of a file of :func:`write_threshold`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or of something else.
    """
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
        missing = {'threshold', 'score', 'fingerprint'} - set(content)
        if missing or not isinstance(content['threshold'], (int, float)):
            raise ValueError(f'it lacks {", ".join(sorted(missing)) or "a number as its threshold"}')
    except FileNotFoundError:
        raise FileNotFoundError(f'threshold file {path} does not exist: --calibrate writes it') from None
    except (ValueError, TypeError) as error:
        raise ValueError(f'{path} is no threshold file, or is damaged: {error}') from error
    return content


def check_threshold(path: str, content: dict[str, Any], inferencer: AnomalyInferencer) -> None:
    """Refuse the threshold of another score or of other weights.

    Raises:
        ValueError: It is of another one.
    """
    if content['score'] != inferencer.score_name:
        raise ValueError(f'{path} is a threshold of the score {content["score"]}, not of {inferencer.score_name}')
    if content['fingerprint'] != fingerprint(inferencer.model):
        raise ValueError(f'{path} is a threshold of other weights: calibrate anew')
