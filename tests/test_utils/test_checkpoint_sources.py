# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints of every source are loaded without running code of theirs."""
import hashlib
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import mmengine.runner
import numpy as np
import pytest
import torch
from crafted import serve, write_crafted
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader, _load_checkpoint, _load_checkpoint_with_prefix
from mmseg.registry import MODELS
from tiny_components import ROOT, build_tiny_model, write_tiny_run

from mgcda.apis import AnomalyInferencer
from mgcda.models.builder import load_network
from mgcda.utils.checkpoints import UnsafeCheckpoint, read_checkpoint, sources
from mgcda.utils.checkpoints.reading import expected_hash
from mgcda.utils.checkpoints.sources import load_from_http

REFUSED = r'evil\.pth is refused: it holds objects that could run code .*posix\.system'
WEIGHTS = dict(state_dict=dict(weight=torch.arange(6.)))


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A server of ``folder`` at ``address``, and a ``cache``; ``evil`` is an address whose file makes ``mark``."""
    folder, mark = tmp_path / 'web', tmp_path / 'mark'
    folder.mkdir()
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path / 'mmengine'))
    write_crafted(folder / 'evil.pth', mark, state_dict=build_tiny_model().state_dict(), meta={})
    with serve(folder) as (address, requests):
        yield SimpleNamespace(
            folder=folder,
            mark=mark,
            address=address,
            requests=requests,
            evil=f'{address}/evil.pth',
            cache=tmp_path / 'torch/hub/checkpoints')


@contextmanager
def answer_once(content: bytes, stay: bool) -> Iterator[str]:
    """A server that sends these bytes and closes the connection, or keeps it open; its address."""
    with socket.create_server(('127.0.0.1', 0)) as server:

        def answer() -> None:
            connection = server.accept()[0]
            connection.recv(4096)
            connection.sendall(content)
            time.sleep(stay)
            connection.close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f'http://127.0.0.1:{server.getsockname()[1]}'
        thread.join()


def files(folder: Path) -> list:
    return sorted(os.listdir(folder)) if folder.is_dir() else []


@pytest.fixture
def tool(tmp_path: Path, load_tool, forget_runs, monkeypatch) -> Callable[..., object]:
    """``tool(path, *arguments)`` runs a tool in ``tmp_path``, where `tiny.py` is the config of an anomaly segmentor."""
    write_tiny_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    score = dict(type='SML', boundary_widths=(4, 2), dilation=1, fitted='sml.pth')
    (tmp_path /
     'scores.py').write_text(f"_base_ = './tiny.py'\nmodel = dict(type='AnomalySegmentor', scores=[{score}])\n")

    def run(path: str, *arguments: str) -> object:
        forget_runs()
        return load_tool(path).main(list(arguments))

    return run


class TestCraftedFilesAtAnAddress:
    """The same file is executed by mmengine's own loader, as the last test shows."""

    @pytest.fixture(autouse=True)
    def leaves_no_mark(self, web) -> Iterator[None]:
        yield
        assert '/evil.pth' in web.requests and not web.mark.exists() and not files(web.cache)

    @pytest.mark.parametrize(
        'arguments',
        [('tools/test.py', 'tiny.py', '{evil}', '--work-dir', 'work'),
         ('tools/train.py', 'tiny.py', '--work-dir', 'work', '--cfg-options', 'load_from={evil}'),
         ('tools/train.py', 'tiny.py', '--work-dir', 'work', '--resume', '--cfg-options', 'load_from={evil}'),
         ('tools/fit_scores.py', 'scores.py', '{evil}')],
        ids=['test', 'load_from', 'resume', 'fit_scores'])
    def test_tools(self, web, tool, arguments) -> None:
        with pytest.raises(UnsafeCheckpoint, match=REFUSED):
            tool(*(argument.format(evil=web.evil) for argument in arguments))

    def test_infer_as_it_is_called(self, web, tool, tmp_path) -> None:
        (tmp_path / 'plain.py').write_text("_base_ = './tiny.py'\nmodel = dict(type='AnomalySegmentor')\n")
        environment = {**os.environ, 'PYTHONPATH': str(ROOT / 'tests'), 'OMP_NUM_THREADS': '1'}
        process = subprocess.run(
            [sys.executable,
             str(ROOT / 'tools/infer.py'), 'plain.py', web.evil, 'data/img/0.png', '--out-dir', 'out'],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300)
        assert process.returncode == 1 and re.search(REFUSED, process.stderr), process.stderr

    def test_inferencer(self, web, tool) -> None:
        cfg = Config.fromfile('tiny.py')
        cfg.model.type = 'AnomalySegmentor'
        with pytest.raises(UnsafeCheckpoint, match=REFUSED):
            AnomalyInferencer(cfg, web.evil)

    def test_frozen_networks(self, web, tool) -> None:
        with pytest.raises(ValueError, match=r'frozen\.segmenter: .*' + REFUSED):
            load_network(dict(config='tiny.py', checkpoint=web.evil), 'frozen.segmenter')

    @pytest.mark.parametrize('prefix', [dict(), dict(prefix='backbone.')])
    def test_init_cfg(self, web, prefix) -> None:
        init_cfg = dict(type='Pretrained', checkpoint=web.evil, **prefix)
        model = MODELS.build(dict(type='TinyBackbone', channels=4, init_cfg=init_cfg))
        with pytest.raises(UnsafeCheckpoint, match=REFUSED):
            model.init_weights()

    def test_what_mmengine_offers(self, web) -> None:
        for load in (lambda: mmengine.runner.load_checkpoint(build_tiny_model(), web.evil),
                     lambda: CheckpointLoader.load_checkpoint(web.evil), lambda: _load_checkpoint(web.evil),
                     lambda: _load_checkpoint_with_prefix('backbone.', web.evil),
                     lambda: mmengine.runner.checkpoint.load_from_http(web.evil)):
            with pytest.raises(UnsafeCheckpoint, match=REFUSED):
                load()

    def test_names_that_stand_for_addresses(self, web, monkeypatch) -> None:
        for name in ('get_torchvision_models', 'get_external_models', 'get_mmcls_models'):
            monkeypatch.setattr(mmengine.runner.checkpoint, name, lambda: dict(net=web.evil, local='evil.pth'))
        for scheme in ('torchvision', 'modelzoo', 'open-mmlab', 'openmmlab', 'mmcls'):
            with pytest.raises(UnsafeCheckpoint, match=REFUSED):
                CheckpointLoader.load_checkpoint(f'{scheme}://net')
            with pytest.raises(ValueError, match=f'{scheme.replace("open-mm", "openmm")}://none is not known'):
                CheckpointLoader.load_checkpoint(f'{scheme}://none')
        home = Path(os.environ['MMENGINE_HOME'])
        home.mkdir()
        (home / 'evil.pth').write_bytes((web.folder / 'evil.pth').read_bytes())
        with pytest.raises(UnsafeCheckpoint, match=REFUSED):
            CheckpointLoader.load_checkpoint('openmmlab://local')

    def test_the_file_would_have_run_in_mmengine(self, web, tmp_path) -> None:
        script = f'from mmengine.runner import CheckpointLoader; CheckpointLoader.load_checkpoint({web.evil!r})'
        subprocess.run([sys.executable, '-c', script],
                       env=dict(os.environ, TORCH_HOME=str(tmp_path / 'other')),
                       capture_output=True,
                       timeout=300,
                       check=True)
        assert web.mark.exists()
        web.mark.unlink()


def test_no_scheme_of_mmengine_is_left_out() -> None:
    assert len(CheckpointLoader._schemes) >= 11
    for scheme, loader in CheckpointLoader._schemes.items():
        assert loader.__module__ == sources.__name__, scheme


def test_object_stores(tmp_path, monkeypatch) -> None:
    write_crafted(tmp_path / 'evil.pth', tmp_path / 'mark')
    backend = SimpleNamespace(get=lambda name: (tmp_path / name.split('/')[-1]).read_bytes())
    monkeypatch.setattr(sources, 'get_file_backend', lambda *args, **kwargs: backend)
    with pytest.raises(UnsafeCheckpoint, match='s3://a/' + REFUSED):
        CheckpointLoader.load_checkpoint('cluster:s3://a/evil.pth')
    torch.save(WEIGHTS, tmp_path / 'good.pth')
    assert torch.equal(CheckpointLoader.load_checkpoint('s3://a/good.pth')['state_dict']['weight'], torch.arange(6.))
    assert not (tmp_path / 'mark').exists()
    with pytest.raises(ImportError, match='pavi://a/evil.pth needs the package pavi'):
        CheckpointLoader.load_checkpoint('pavi://a/evil.pth')


class TestDownloads:

    def put(self, web, name: str, content: bytes = None, wrong: bool = False) -> str:
        """Have the server offer a file whose name ends in its hash, or in another; the address."""
        if content is None:
            torch.save(WEIGHTS, web.folder / 'plain.pth')
            content = (web.folder / 'plain.pth').read_bytes()
        digest = hashlib.sha256(content + b'x' * wrong).hexdigest()
        (web.folder / f'{name}-{digest[:8]}.pth').write_bytes(content)
        return f'{web.address}/{name}-{digest[:8]}.pth'

    def test_are_kept(self, web) -> None:
        address = self.put(web, 'good')
        for _ in range(2):
            assert torch.equal(load_from_http(address)['state_dict']['weight'], torch.arange(6.))
        assert len(web.requests) == 1 and files(web.cache) == [address.rsplit('/', 1)[1]]

    def test_of_another_hash_leave_nothing(self, web) -> None:
        address = self.put(web, 'wrong', wrong=True)
        with pytest.raises(ValueError, match=rf'{address} is damaged or is another file: its SHA-256 begins with'):
            load_from_http(address)
        assert not files(web.cache)

    def test_in_the_cache_are_checked_too(self, web) -> None:
        address = self.put(web, 'good')
        load_from_http(address)
        torch.save(dict(state_dict={}), next(web.cache.iterdir()))
        with pytest.raises(ValueError, match=r'\(kept as .*\) is damaged or is another file'):
            load_from_http(address)
        (web.cache / 'evil.pth').write_bytes((web.folder / 'evil.pth').read_bytes())
        with pytest.raises(UnsafeCheckpoint, match=r'evil\.pth \(kept as .*/evil\.pth\) is refused'):
            load_from_http(web.evil)
        assert not web.mark.exists()

    def test_that_are_no_checkpoints_leave_nothing(self, web) -> None:
        (web.folder / 'page.pth').write_text('<html>')
        (web.folder / 'cut.pth').write_bytes((web.folder / 'evil.pth').read_bytes()[:500])
        for name in ('page', 'cut'):
            with pytest.raises(ValueError, match=f'{name}.pth is not a checkpoint, or is damaged'):
                load_from_http(f'{web.address}/{name}.pth')
        with pytest.raises(ConnectionError, match='cannot download .*none.pth: HTTP Error 404'):
            load_from_http(f'{web.address}/none.pth')
        assert not files(web.cache)

    def test_that_break_off_name_the_address(self, web, monkeypatch) -> None:
        torch.save(WEIGHTS, web.folder / 'good.pth')
        size = (web.folder / 'good.pth').stat().st_size
        monkeypatch.setattr(sources, 'TIMEOUT', 0.3)
        head = b'HTTP/1.1 200 OK\r\n'
        for answer, reason in ((b'', '.*closed'), (b'hello\r\n\r\n', 'hello'), (head + b'\r\n', 'timed out'),
                               (head + b'Content-Length: 9\r\n\r\nx', 'only 1 of 9 bytes came'),
                               (head + b'Content-Length: x\r\n\r\nx', "invalid literal.*'x'")):
            with answer_once(answer, stay='timed' in reason) as address:
                with pytest.raises(ConnectionError, match=f'cannot download {address}/good.pth: {reason}'):
                    load_from_http(f'{address}/good.pth')
        web.cache.joinpath('.good.pth.99999999.tmp').touch()  # of a download that was killed
        assert load_from_http(f'{web.address}/good.pth') and files(web.cache) == ['good.pth']
        assert web.cache.joinpath('good.pth').stat().st_size == size

    def test_of_several_processes_are_one(self, web) -> None:
        address = self.put(web, 'shared')
        with multiprocessing.get_context('fork').Pool(3) as pool:
            loaded = pool.map(load_from_http, [address] * 3)
        assert all(torch.equal(part['state_dict']['weight'], torch.arange(6.)) for part in loaded)
        assert len(web.requests) == 1 and len(files(web.cache)) == 1


def test_hashes_in_names() -> None:
    assert expected_hash('vgg16_20210208-db26f1a5.pth') == 'db26f1a5'
    assert expected_hash('model-20210208.pth') is None  # a date
    assert expected_hash('a-DB26F1A5.pt') == 'db26f1a5'
    assert [expected_hash(name) for name in ('iter_200.pth', 'iter-00004000.pth', 'a-db26f1a5.pth.bak')] == [None] * 3


def test_local_files_with_a_hash_are_checked(tmp_path) -> None:
    torch.save(WEIGHTS, tmp_path / 'weights-0000000a.pth')
    with pytest.raises(ValueError, match='weights-0000000a.pth is damaged or is another file.*CheckpointHook'):
        read_checkpoint(tmp_path / 'weights-0000000a.pth')
    torch.save(dict(WEIGHTS, optimizer={}), tmp_path / 'iter-0000000a.pth')  # as filename_tmpl='iter-{:08x}.pth' has it
    read_checkpoint(tmp_path / 'iter-0000000a.pth')
    digest = hashlib.sha256((tmp_path / 'weights-0000000a.pth').read_bytes()).hexdigest()
    (tmp_path / 'weights-0000000a.pth').rename(tmp_path / f'weights-{digest[:8]}.pth')
    read_checkpoint(tmp_path / f'weights-{digest[:8]}.pth', mmap=True)


@pytest.mark.parametrize('zipped', [True, False])
def test_numpy_arrays_of_another_byte_order_are_refused(tmp_path, zipped) -> None:
    """Torch's reader would give other numbers. The second array spells the order by a reference to the first's."""
    for meta in (dict(a=np.array([1, 2], '>i2')), dict(sign='>', a=np.array([1, 2], '>i2'))):
        torch.save(dict(WEIGHTS, meta=meta), tmp_path / 'c.pth', _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match=r'c\.pth holds NumPy arrays in the byte order of another machine'):
            read_checkpoint(tmp_path / 'c.pth')
    torch.save(
        dict(WEIGHTS, meta=dict(sign='>', a=np.array([1, 2]))),
        tmp_path / 'c.pth',
        _use_new_zipfile_serialization=zipped)
    assert read_checkpoint(tmp_path / 'c.pth')['meta']['a'][1] == 2


class Module:
    """Pickles as an object that torch does not know."""


def test_the_reason_is_given_and_never_the_advice_to_trust_the_file(tmp_path) -> None:
    path = tmp_path / 'c.pth'
    torch.jit.save(torch.jit.script(torch.nn.Identity()), tmp_path / 'script.pth')
    torch.save(WEIGHTS, tmp_path / 'later.pth', pickle_protocol=4)
    torch.save(Module(), tmp_path / 'module.pth')
    torch.save(WEIGHTS, tmp_path / 'whole.pth')
    for content, reason in ((b'', r'damaged \(it is empty\)$'), (b'\n<html>', r'\(it is a page, such as that'),
                            ((tmp_path / 'script.pth').read_bytes(), 'it is a TorchScript archive'),
                            ((tmp_path / 'later.pth').read_bytes(), 'its pickle is of a later protocol than 2'),
                            ((tmp_path / 'module.pth').read_bytes(), r'run code \(.*Module\)$'),
                            ((tmp_path / 'whole.pth').read_bytes()[:-500], 'damaged'), (b'half a file', 'KeyError')):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=reason) as error:
            read_checkpoint(path)
        assert not re.search('weights_only|safe_globals|file an issue', str(error.value))


def test_the_format_before_pytorch_1_6(tmp_path) -> None:
    torch.save(WEIGHTS, tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    for mmap in (False, True):
        assert torch.equal(read_checkpoint(tmp_path / 'old.pth', mmap=mmap)['state_dict']['weight'], torch.arange(6.))
