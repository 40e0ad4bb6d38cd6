# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Numbers that papers report, for printing beside one's own. None of them was measured with this code."""
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DATA_FILE = Path(__file__).with_name('published_results.json')


@dataclass(frozen=True)
class PublishedSource:
    """Where numbers are quoted from, and what must be known to compare them."""
    title: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PublishedResult:
    """What a source reports of a method.

    ``values``: data set -> metric -> percent, as the source prints it. Hidden test sets end on ``_test``.
    ``retraining``: the segmenter is trained again; ``ood_data``: outlier data are used; ``extra_network``: there is
    another network beside the segmenter; None where the source does not say. ``paper``: the method's own, where the
    source is a list.
    """
    method: str
    source: str
    values: dict[str, dict[str, str]]
    retraining: bool | None = None
    ood_data: bool | None = None
    extra_network: bool | None = None
    paper: str | None = None


def read_published(sources: Sequence[str] | None = None) -> tuple[dict[str, PublishedSource], list[PublishedResult]]:
    """Quoted results, with their sources.

    Args:
        sources: Names of sources, such as 'mgcda' (tables 1 and 2 of its paper); None takes all.

    Raises:
        ValueError: There is no such source.
    """
    content = json.loads(DATA_FILE.read_text(encoding='utf-8'))
    known = {name: PublishedSource(entry['title'], tuple(entry['notes'])) for name, entry in content['sources'].items()}
    unknown = sorted(set(sources or ()) - known.keys())
    if unknown:
        raise ValueError(f'there are no published results of {", ".join(unknown)}, but of {", ".join(known)}')
    chosen = {name: source for name, source in known.items() if sources is None or name in sources}
    results = [PublishedResult(**entry) for entry in content['results']]
    return chosen, [result for result in results if result.source in chosen]
