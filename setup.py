# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Packaging of mgcda: the package lies in ``projects/``, what it needs in ``requirements.txt``."""
import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
#: Address of the repository, without a slash at its end. Links are made from it; there are none while it is empty.
REPOSITORY_URL = ''


def read_version() -> str:
    text = (ROOT / 'projects/mgcda/version.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE).group(1)


def read_requirements() -> list[str]:
    lines = (ROOT / 'requirements.txt').read_text(encoding='utf-8').splitlines()
    lines = [line.split('#')[0].strip() for line in lines]
    return [line for line in lines if line]


def read_readme() -> str:
    readme = ROOT / 'README.md'
    return readme.read_text(encoding='utf-8') if readme.is_file() else ''


def project_urls() -> dict[str, str]:
    if not REPOSITORY_URL:
        return {}
    return {
        'Source': REPOSITORY_URL,
        'Issues': f'{REPOSITORY_URL}/issues',
        'Changelog': f'{REPOSITORY_URL}/blob/main/CHANGELOG.md'
    }


setup(
    name='mgcda',
    version=read_version(),
    description='Road anomaly segmentation for MMSegmentation: MGCDA, its baselines and its benchmarks',
    long_description=read_readme(),
    long_description_content_type='text/markdown',
    author='mgcda authors',
    url=REPOSITORY_URL or None,
    project_urls=project_urls(),
    license='Apache-2.0',
    package_dir={'': 'projects'},
    packages=find_packages('projects'),
    package_data={
        'mgcda': ['py.typed'],
        'mgcda.evaluation': ['published_results.json']
    },
    python_requires='>=3.10',
    install_requires=read_requirements(),
    classifiers=[
        'Development Status :: 4 - Beta',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Image Recognition',
        'Typing :: Typed',
    ])
