# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.registry import FUNCTIONS

from .base import Score
from .function_score import FunctionScore, is_score_function

ScoreConfig = str | dict | Score | Callable


def build_score(cfg: ScoreConfig) -> Score:
    """Score of a name ('msp'), a config (``dict(type='energy', temperature=2.0)``), a function or class, or as it is.

    A config may also have a ``name``, under which results are reported.

    Raises:
        ValueError: If no score of that name is registered, or ``name`` cannot be that of a folder.
        TypeError: If ``cfg`` is none of these, or has arguments that the score does not take.
    """
    if isinstance(cfg, Score):
        return cfg
    if _is_score(cfg):
        return _instance(cfg, {})
    if isinstance(cfg, str):
        cfg = dict(type=cfg)
    if not isinstance(cfg, dict) or not isinstance(cfg.get('type'), str):
        raise TypeError('a score must be a name, a dict with a name as its `type`, a mgcda.scores.Score or a function '
                        f'with @mgcda.scores.score_function, got {cfg!r}')
    kwargs = dict(cfg)
    kind, name = kwargs.pop('type'), kwargs.pop('name', None)
    # Among scores only: a wrong name must not reach other registered functions.
    known = {key: target for key, target in FUNCTIONS.module_dict.items() if _is_score(target)}
    if kind not in known:
        raise ValueError(f'unknown score {kind!r}, known are {sorted(known)}')
    score = _instance(known[kind], kwargs)
    if name is not None:
        if not isinstance(name, str) or not name or '/' in name or name.startswith('.'):
            raise ValueError(f"the name of a score must be a string without '/' and '.' in front, got {name!r}")
        score.name = name
    return score


def build_scores(cfgs: Sequence[ScoreConfig]) -> dict[str, Score]:
    """Scores by name, see :func:`build_score`.

    Raises:
        ValueError: If there are none, or two of one name.
    """
    scores: dict[str, Score] = {}
    for cfg in cfgs:
        score = build_score(cfg)
        if score.name in scores:
            raise ValueError(f'two scores are called {score.name!r}: give one of them another `name`')
        scores[score.name] = score
    if not scores:
        raise ValueError('scores must name at least one score')
    return scores


def _is_score(target: Any) -> bool:
    return is_score_function(target) or (isinstance(target, type) and issubclass(target, Score))


def _instance(target: Any, kwargs: dict[str, Any]) -> Score:
    if is_score_function(target):
        return FunctionScore(target, **kwargs)
    try:
        inspect.signature(target).bind(**kwargs)
    except TypeError as error:
        raise TypeError(f'score {target.__name__!r}: {error}') from None
    return target(**kwargs)
