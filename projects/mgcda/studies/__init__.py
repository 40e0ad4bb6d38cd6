# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
from .runner import Pool, StepFailed, find_slots, run_study
from .study import Job, Row, Stage, Study, read_study
from .table import make_table, write_tables

__all__ = [
    'Job', 'Pool', 'Row', 'Stage', 'StepFailed', 'Study', 'find_slots', 'make_table', 'read_study', 'run_study',
    'write_tables'
]
