# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import os
import shutil
import subprocess
import sys
import tarfile
import venv
from importlib import metadata
from pathlib import Path

import pytest

from mgcda import __version__


def requirement_names(text: str) -> list[str]:
    lines = [line.split('#')[0].strip() for line in text.splitlines()]
    return [line.replace('>', '=').replace('<', '=').split('=')[0].strip().lower() for line in lines if line]


def run_setup(root: Path, **environment: str) -> subprocess.CompletedProcess:
    env = {**os.environ, 'VENV': '.venv', 'PYTHON': sys.executable, **environment}
    return subprocess.run(['bash', 'tools/setup_env.sh'],
                          cwd=root,
                          env=env,
                          capture_output=True,
                          text=True,
                          timeout=120)


@pytest.fixture
def checkout(repo_root: Path, tmp_path: Path) -> Path:
    """The files of the set-up, with no requirements: nothing is downloaded."""
    for name in ('setup.py', 'pyproject.toml', 'tools/setup_env.sh', 'tools/check_env.py'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(repo_root / name, tmp_path / name)
    for name in ('requirements.txt', 'requirements-dev.txt', 'constraints.txt'):
        (tmp_path / name).write_text('')
    return tmp_path


def stub_environment(checkout: Path) -> Path:
    """A pip that records its calls and an installation that is always found in order, in a real environment."""
    venv.create(checkout / '.venv', with_pip=False)
    site = Path(
        subprocess.run([checkout / '.venv/bin/python', '-c', 'import site; print(site.getsitepackages()[0])'],
                       capture_output=True,
                       text=True,
                       check=True).stdout.strip())
    (site / 'pip').mkdir()
    (site / 'pip/__init__.py').write_text('')
    (site / 'pip/__main__.py').write_text('import os, sys\nopen("pip.log", "a").write(" ".join(sys.argv[1:]) + "\\n")\n'
                                          'sys.exit(int("install" in sys.argv and os.path.exists("no-network")))\n')
    script = checkout / 'tools/check_env.py'
    script.write_text(script.read_text().replace('messages = find_doubles() or find_import_errors()', 'messages = []'))
    return site


def test_constraints_pin_every_requirement(repo_root: Path) -> None:
    names = ('requirements.txt', 'requirements-dev.txt')
    required = requirement_names('\n'.join((repo_root / name).read_text() for name in names))
    pinned = requirement_names((repo_root / 'constraints.txt').read_text())
    assert len(required) > 8 and set(required) <= set(pinned)


def test_requirements_install_one_distribution_of_each_package(repo_root: Path, load_tool) -> None:
    required = requirement_names((repo_root / 'requirements.txt').read_text())
    for names in load_tool('tools/check_env.py').SAME_IMPORT_NAME:
        assert len(set(names) & set(required)) <= 1


def test_package_metadata(repo_root: Path) -> None:
    out = subprocess.run([sys.executable, 'setup.py', '--name', '--version'],
                         cwd=repo_root,
                         capture_output=True,
                         text=True)
    assert out.stdout.split()[-2:] == ['mgcda', __version__]


def test_script_sets_up_once_and_again_when_an_input_changes(checkout: Path) -> None:
    stub_environment(checkout)
    first = run_setup(checkout)
    assert first.returncode == 0 and '.venv is ready' in first.stdout, first.stdout + first.stderr
    calls = (checkout / 'pip.log').read_text()
    assert 'install -r requirements.txt -r requirements-dev.txt -c constraints.txt' in calls
    assert 'install -q --no-deps -e .' in calls and 'check\n' in calls

    second = run_setup(checkout)
    assert second.returncode == 0 and 'up to date' in second.stdout
    assert (checkout / 'pip.log').read_text() == calls

    (checkout / 'constraints.txt').write_text('# changed\n')
    assert 'repairing or updating' in run_setup(checkout).stdout
    assert (checkout / 'pip.log').read_text().count('install -r') == 2


def test_interrupted_set_up_is_not_taken_for_done(checkout: Path) -> None:
    stub_environment(checkout)
    (checkout / 'no-network').touch()
    assert run_setup(checkout).returncode != 0
    assert not (checkout / '.venv/.mgcda-setup').exists()
    (checkout / 'no-network').unlink()
    assert '.venv is ready' in run_setup(checkout).stdout


def test_environment_without_pip_gets_it(checkout: Path) -> None:
    site, stub = stub_environment(checkout), checkout / 'stub/ensurepip'
    (site / 'pip').rename(checkout / 'saved')
    stub.mkdir(parents=True)
    (stub / '__init__.py').touch()
    (stub / '__main__.py').write_text(f'import os\nos.rename("saved", {str(site / "pip")!r})\n')
    result = run_setup(checkout, PYTHONPATH=str(stub.parent))
    assert 'repairing or updating .venv' in result.stdout and '.venv is ready' in result.stdout


def test_environment_that_does_not_run_is_made_anew(checkout: Path) -> None:
    venv.create(checkout / '.venv', with_pip=False)
    (checkout / '.venv/leftover').touch()
    (checkout / '.venv/bin/python').unlink()
    run_setup(checkout, PIP_NO_INDEX='1', PIP_FIND_LINKS='')  # may fail at the build of mgcda, offline
    assert not (checkout / '.venv/leftover').exists()
    assert subprocess.run([checkout / '.venv/bin/python', '-m', 'pip', '--version'],
                          capture_output=True).returncode == 0


def test_folders_that_are_no_environment_are_left_alone(checkout: Path, repo_root: Path) -> None:
    shutil.copy(repo_root / 'Makefile', checkout)
    for name in ('configs', 'demo', 'projects', 'tests', 'precious', 'env'):
        (checkout / name).mkdir()
    (checkout / 'precious/file').touch()
    result = run_setup(checkout, VENV='precious')
    assert result.returncode != 0 and 'VENV=precious exists and is no virtual environment' in result.stderr
    venv.create(checkout / 'env', with_pip=False)
    for name, code in (('precious', 2), ('env', 0), ('none', 0)):
        cleaned = subprocess.run(['make', 'distclean', f'VENV={name}'], cwd=checkout, capture_output=True)
        assert cleaned.returncode == code
    assert (checkout / 'precious/file').is_file() and not (checkout / 'env').exists()


def test_cdpath_leads_nowhere_else(repo_root: Path, tmp_path: Path) -> None:
    (tmp_path / 'tools').mkdir()
    printed = subprocess.run(['bash', '-c', '. tools/launch_env.sh; echo "$ROOT"'],
                             cwd=repo_root,
                             env={
                                 **os.environ, 'CDPATH': str(tmp_path)
                             },
                             capture_output=True,
                             text=True)
    assert printed.stdout == f'{repo_root}\n'


def test_source_distribution_has_what_its_setup_reads(repo_root: Path, tmp_path: Path) -> None:
    names = ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'requirements.txt', 'constraints.txt', 'README.md', 'LICENSE',
             'projects/mgcda/version.py', 'projects/mgcda/__init__.py')
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repo_root / name, tmp_path / name)
    subprocess.run([sys.executable, 'setup.py', '-q', 'sdist'], cwd=tmp_path, check=True, capture_output=True)
    with tarfile.open(tmp_path / f'dist/mgcda-{__version__}.tar.gz') as archive:
        packed = {name.partition('/')[2] for name in archive.getnames()}
    assert set(names) <= packed


def test_unsuitable_python_is_named(checkout: Path) -> None:
    result = run_setup(checkout, PYTHON='/no/such/python')
    assert result.returncode != 0 and 'PYTHON=/no/such/python does not run' in result.stderr
    old = checkout / 'python3.8'
    old.write_text('#!/bin/sh\necho 3 8\n')
    old.chmod(0o755)
    result = run_setup(checkout, PYTHON=str(old))
    assert result.returncode != 0 and 'is Python 3.8; 3.10 to 3.13 is needed' in result.stderr
    assert not (checkout / '.venv').exists()


def test_damaged_distributions_are_found(tmp_path: Path, load_tool, monkeypatch) -> None:
    check_env = load_tool('tools/check_env.py')
    site = tmp_path / 'lib/site-packages'
    for name, recorded in (('whole', 3), ('cut', 9)):
        info = site / f'{name}-1.0.dist-info'
        info.mkdir(parents=True)
        (site / f'{name}.py').write_text('abc')
        (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n')
        (info / 'RECORD').write_text(f'{name}.py,sha256=x,{recorded}\n{name}-1.0.dist-info/RECORD,,\n')
    (site / 'gone-1.0.dist-info').mkdir()
    (site / 'gone-1.0.dist-info/METADATA').write_text('Metadata-Version: 2.1\nName: gone\nVersion: 1.0\n')
    (site / 'gone-1.0.dist-info/RECORD').write_text('gone.py,sha256=x,3\n')
    (site / 'unrecorded-1.0.dist-info').mkdir()
    (site / 'unrecorded-1.0.dist-info/METADATA').write_text('Metadata-Version: 2.1\nName: unrecorded\nVersion: 1.0\n')
    (site / 'empty-1.0.dist-info').mkdir()
    (site / '~alf').mkdir()
    monkeypatch.setattr(sys, 'path', [str(site)])
    monkeypatch.setattr(sys, 'prefix', str(tmp_path))
    check_env.remove_leftovers()
    assert check_env.find_broken() == ['cut==1.0', 'gone==1.0', 'unrecorded==1.0']
    assert not (site / '~alf').exists() and not (site / 'empty-1.0.dist-info').exists()


@pytest.mark.parametrize('library, package', [('libGL.so.1', 'libgl1'), ('libgthread-2.0.so.0', 'libglib2.0-0')])
def test_missing_system_libraries_are_named(load_tool, library, package) -> None:
    error = ImportError(f'{library}: cannot open shared object file: No such file or directory')
    assert f'apt-get install {package}' in load_tool('tools/check_env.py').explain_import_error('cv2', error)


def test_two_distributions_of_one_package_are_an_error(load_tool, monkeypatch) -> None:
    check_env = load_tool('tools/check_env.py')
    monkeypatch.setattr(
        check_env.metadata, 'version', lambda name: {
            'mmcv': '2.1.0',
            'mmcv-lite': '2.2.0'
        }[name] if name in ('mmcv', 'mmcv-lite') else (_ for _ in ()).throw(metadata.PackageNotFoundError(name)))
    assert check_env.find_doubles() == [
        'mmcv and mmcv-lite bring the same package: uninstall both, then install one of them'
    ]
