# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import json
import os
import pickle
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mmseg
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import ConcatDataset, RepeatDataset
from tiny_components import ROOT, build_tiny_model, write_tiny_run

from mgcda.datasets import AnomalyDataset
from mgcda.utils.configs import check_keys

TINY = ['train_cfg.max_epochs=1']


@pytest.fixture
def run(tmp_path: Path, load_tool, forget_runs, monkeypatch):
    """``run.train(...)`` and ``run.test(...)`` with the tiny config; ``run.config`` and ``run.work`` are its paths."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    config, work = write_tiny_run(tmp_path), tmp_path / 'work'

    def train(*args: str):
        forget_runs()
        return load_tool('tools/train.py').main([str(config), '--work-dir', str(work), *args])

    def test(checkpoint: Any, *args: str):
        forget_runs()
        return load_tool('tools/test.py').main([str(config), str(checkpoint), '--work-dir', str(work), *args])

    return SimpleNamespace(train=train, test=test, config=config, work=work)


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> Path:
    """A checkpoint of a tiny training, made by a real process with the package found by the script itself."""
    folder = tmp_path_factory.mktemp('trained')
    config = write_tiny_run(folder)
    process = start([ROOT / 'tools/train.py', config, '--work-dir', folder / 'work', '--cfg-options', *TINY], folder)
    assert process.returncode == 0, process.stdout
    return folder / 'work/epoch_1.pth'


def start(arguments: list[Any], folder: Path, **environment: str) -> subprocess.CompletedProcess:
    env = {**os.environ, 'PYTHONPATH': str(ROOT / 'tests'), 'OMP_NUM_THREADS': '1', **environment}
    env.pop('LOCAL_RANK', None)
    command = [str(argument) for argument in (sys.executable, *arguments)]
    return subprocess.run(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)


def free_port() -> str:
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return str(sock.getsockname()[1])


class TestRuns:

    def test_train_test_and_resume(self, run) -> None:
        runner = run.train('--cfg-options', *TINY)
        assert runner.iter == 2 and (run.work / 'epoch_1.pth').is_file()
        resumed = run.train('--resume')
        assert resumed.iter == 4 and resumed._resume
        momentum = torch.load(run.work / 'epoch_2.pth', weights_only=True)['optimizer']['state']
        assert momentum

        metrics = run.test(run.work / 'epoch_2.pth', '--out', 'predictions', '--show-dir', 'painted')
        assert 0 < metrics['mIoU'] < 100
        assert sorted(os.listdir('predictions')) == [f'{index}.png' for index in range(4)]
        assert len(list(Path('painted').rglob('*.png'))) == 4
        dumped = [json.loads(path.read_text()) for path in run.work.glob('*/*.json')]
        assert any(entry.get('mIoU') == metrics['mIoU'] for entry in dumped)

    def test_resumed_run_equals_one_in_one_go(self, run, tmp_path) -> None:
        run.train()
        straight = torch.load(run.work / 'epoch_2.pth', weights_only=True)
        other = tmp_path / 'other'
        run.train('--work-dir', str(other), '--cfg-options', *TINY)
        run.train('--work-dir', str(other), '--resume')
        resumed = torch.load(other / 'epoch_2.pth', weights_only=True)
        for name, value in straight['state_dict'].items():
            assert torch.equal(value, resumed['state_dict'][name]), name

    def test_resume_of_a_config_with_load_from(self, run, trained, tmp_path) -> None:
        """A first start takes the weights of load_from; then the run goes on from its own, also when moved."""
        weights = torch.load(trained, weights_only=True)['state_dict']
        torch.save(dict(state_dict=weights), tmp_path / 'weights.pth')
        run.config.write_text(run.config.read_text() + f"\nload_from = '{tmp_path}/weights.pth'\n")
        runner = run.train('--resume', '--cfg-options', *TINY)
        assert runner.iter == 2 and not runner._resume and runner._load_from == f'{tmp_path}/weights.pth'
        run.work.rename(tmp_path / 'moved')
        runner = run.train('--work-dir', str(tmp_path / 'moved'), '--resume')
        assert runner.iter == 4 and runner._resume and runner._load_from == str(tmp_path / 'moved/epoch_1.pth')
        resumed = run.train('--resume', '--cfg-options', f'load_from={trained}')
        assert resumed.iter == 4 and resumed._resume

    def test_tta(self, run, trained) -> None:
        assert set(run.test(trained, '--tta')) == set(run.test(trained))

    def test_testing_deploys_the_model(self, run, trained, load_tool, monkeypatch) -> None:
        module = load_tool('tools/test.py')
        seen = []
        monkeypatch.setattr(
            module, 'build_runner', lambda cfg, build=module.build_runner: seen.append(build(cfg)) or seen[0])
        run.test(trained)
        assert not hasattr(seen[0].model, 'train_only')

    def test_work_dir_defaults_to_the_name_of_the_config(self, run, tmp_path, load_tool) -> None:
        load_tool('tools/train.py').main([str(run.config), '--cfg-options', *TINY])
        assert (tmp_path / 'work_dirs/tiny/epoch_1.pth').is_file()

    def test_hooks_that_are_none_are_left_out(self, run, trained) -> None:
        run.test(trained, '--cfg-options', 'default_hooks.mdat=None', 'default_hooks.timer=None')
        runner = run.train('--cfg-options', *TINY, 'default_hooks.mdat=None')
        assert 'MDATHook' not in [type(hook).__name__ for hook in runner.hooks]

    def test_stock_tools_run_the_same_config(self, run, trained, tmp_path) -> None:
        stock = Path(mmseg.__file__).parent / '.mim/tools/test.py'
        if not stock.is_file():
            pytest.skip('this installation of MMSegmentation has no tools')
        path = os.pathsep.join([str(ROOT / 'projects'), str(ROOT / 'tests')])
        process = start([stock, run.config, trained, '--work-dir', run.work], tmp_path, PYTHONPATH=path)
        assert process.returncode == 0 and 'mIoU' in process.stdout, process.stdout

    @pytest.mark.slow
    def test_two_processes_over_gloo(self, run, tmp_path) -> None:
        port = dict(
            PORT=free_port(),
            PYTHON=sys.executable,
            PYTHONPATH=str(ROOT / 'tests'),
            CUDA_VISIBLE_DEVICES='',
            OMP_NUM_THREADS='1')
        for arguments in (['dist_train.sh', run.config, '2', '--work-dir', run.work, '--cfg-options',
                           *TINY], ['dist_test.sh', run.config, run.work / 'epoch_1.pth', '2', '--work-dir', run.work]):
            process = subprocess.run(['bash', *map(str, [ROOT / 'tools' / arguments[0], *arguments[1:]])],
                                     env={
                                         **os.environ,
                                         **port
                                     },
                                     cwd=tmp_path,
                                     stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT,
                                     text=True,
                                     timeout=300)
            assert process.returncode == 0, process.stdout
        assert 'Epoch(test) [2/2]' in process.stdout and 'mIoU' in process.stdout


class TestArguments:

    @pytest.mark.parametrize('flag', ['--local_rank', '--local-rank'])
    def test_local_rank(self, load_tool, monkeypatch, flag) -> None:
        monkeypatch.delenv('LOCAL_RANK', raising=False)
        load_tool('tools/train.py').parse_args(['config.py', f'{flag}=3'])
        assert os.environ['LOCAL_RANK'] == '3'
        load_tool('tools/test.py').parse_args(['config.py', 'c.pth', f'{flag}=5'])
        assert os.environ['LOCAL_RANK'] == '3'

    @pytest.mark.parametrize('launcher, variable', [('slurm', 'SLURM_PROCID'), ('mpi', 'OMPI_COMM_WORLD_RANK')])
    def test_a_launcher_that_did_not_start_the_tool(self, run, monkeypatch, launcher, variable) -> None:
        monkeypatch.delenv(variable, raising=False)
        with pytest.raises(ValueError, match=f'--launcher {launcher} needs {variable}.* in the environment'):
            run.train('--launcher', launcher)

    @pytest.mark.parametrize('tool', ['train', 'test'])
    def test_all_arguments_of_the_stock_tools_are_taken(self, tool) -> None:
        stock = Path(mmseg.__file__).parent / f'.mim/tools/{tool}.py'
        if not stock.is_file():
            pytest.skip('this installation of MMSegmentation has no tools')
        flags = set(re.findall(r"'(--[\w-]+)'", stock.read_text()))
        sources = (ROOT / f'tools/{tool}.py').read_text() + (ROOT / 'projects/mgcda/engine/launch.py').read_text()
        assert len(flags) > 5 and flags <= set(re.findall(r"'(--[\w-]+)'", sources))

    @pytest.mark.parametrize('script, arguments', [('dist_train.sh', ['config.py']),
                                                   ('dist_test.sh', ['config.py', 'c.pth']),
                                                   ('slurm_train.sh', ['part', 'job']),
                                                   ('slurm_test.sh', ['part', 'job', 'config.py'])])
    def test_launchers_say_what_they_need(self, script, arguments) -> None:
        process = subprocess.run(['bash', str(ROOT / 'tools' / script), *arguments], capture_output=True, text=True)
        assert process.returncode == 2 and 'usage' in process.stderr

    def test_slurm_launcher_keeps_arguments_whole(self, tmp_path) -> None:
        srun = tmp_path / 'srun'
        srun.write_text('#!/usr/bin/env bash\nprintf "<%s>\\n" "$@"\n')
        srun.chmod(0o755)
        env = {**os.environ, 'PATH': f'{tmp_path}{os.pathsep}{os.environ["PATH"]}', 'GPUS': '16', 'GPUS_PER_NODE': '8'}
        process = subprocess.run(
            ['bash',
             str(ROOT / 'tools/slurm_train.sh'), 'part', 'a job', 'config.py', '--cfg-options', 'a="[1, 2]"'],
            env=env,
            capture_output=True,
            text=True)
        lines = process.stdout.splitlines()
        assert lines[:5] == ['<-p>', '<part>', '<--job-name=a job>', '<--gres=gpu:8>', '<--ntasks=16>']
        assert lines[-5:] == ['<config.py>', '<--launcher>', '<slurm>', '<--cfg-options>', '<a="[1, 2]">']


class TestBadInput:

    def test_missing_files(self, run, load_tool) -> None:
        with pytest.raises(FileNotFoundError, match='none.py does not exist'):
            load_tool('tools/train.py').main(['none.py'])
        with pytest.raises(FileNotFoundError, match='none.pth does not exist'):
            run.test('none.pth')
        with pytest.raises(FileNotFoundError, match='none.pth does not exist'):
            run.train('--cfg-options', 'load_from=none.pth')
        assert not run.work.exists()

    @pytest.mark.parametrize('content', [b'', b'<html>not found</html>', pickle.dumps([1, 2])])
    def test_not_a_checkpoint(self, run, tmp_path, content) -> None:
        (tmp_path / 'file.pth').write_bytes(content)
        with pytest.raises(ValueError, match='file.pth is not a checkpoint'):
            run.test(tmp_path / 'file.pth')

    def test_truncated_checkpoint(self, run, trained, tmp_path) -> None:
        (tmp_path / 'cut.pth').write_bytes(trained.read_bytes()[:-2000])
        with pytest.raises(ValueError, match='cut.pth is not a checkpoint, or is damaged'):
            run.test(tmp_path / 'cut.pth')

    def test_checkpoint_that_runs_code(self, run, tmp_path) -> None:

        class Payload:

            def __reduce__(self) -> tuple:
                return os.system, (f'touch {tmp_path}/marker', )

        torch.save(dict(state_dict=build_tiny_model().state_dict(), payload=Payload()), tmp_path / 'evil.pth')
        for start_run in (lambda: run.test(tmp_path / 'evil.pth'),
                          lambda: run.train('--cfg-options', f'load_from={tmp_path}/evil.pth')):
            with pytest.raises(ValueError, match='evil.pth is refused: it holds objects that could run code'):
                start_run()
        assert not (tmp_path / 'marker').exists()

    def test_damaged_latest_checkpoint_is_named_on_resuming(self, run) -> None:
        run.work.mkdir()
        (run.work / 'epoch_1.pth').write_bytes(b'half a file')
        (run.work / 'last_checkpoint').write_text(str(run.work / 'epoch_1.pth'))
        with pytest.raises(ValueError, match='epoch_1.pth is not a checkpoint, or is damaged'):
            run.train('--resume')

    def test_code_in_the_metadata_is_not_run_on_resuming(self, run, trained, tmp_path) -> None:
        checkpoint = torch.load(trained, weights_only=True)
        checkpoint['meta']['config'] = f'open({str(tmp_path / "marker")!r}, "w")'
        torch.save(checkpoint, tmp_path / 'evil.pth')
        runner = run.train('--resume', '--cfg-options', f'load_from={tmp_path}/evil.pth')
        assert runner.iter == 4 and not (tmp_path / 'marker').exists()

    def test_checkpoint_of_another_architecture(self, run, trained) -> None:
        wider = ['--cfg-options', 'model.backbone.channels=8', 'model.decode_head.in_channels=8']
        with pytest.raises(
                ValueError,
                match=r'does not fit.*TinySegmentor.*of TinySegmentor with TinyBackbone.*of another '
                r'shape: .*backbone\.conv\.weight \(4, 3, 3, 3\) instead of \(8, 3, 3, 3\)'):
            run.test(trained, *wider)
        with pytest.raises(ValueError, match='does not fit'):
            run.train('--resume', *wider, f'load_from={trained}')

    def test_checkpoint_with_other_keys(self, run, trained, tmp_path) -> None:
        checkpoint = torch.load(trained, weights_only=True)
        checkpoint['state_dict']['neck.weight'] = checkpoint['state_dict'].pop('backbone.conv.weight')
        torch.save(checkpoint, tmp_path / 'other.pth')
        with pytest.raises(
                ValueError, match=r'1 missing from the checkpoint: backbone.conv.weight; 1 not in the model: neck'):
            run.test(tmp_path / 'other.pth')
        run.train('--cfg-options', *TINY, f'load_from={tmp_path}/other.pth')  # fits in part: a start, with a warning
        torch.save(dict(state_dict={'other.weight': torch.ones(1)}), tmp_path / 'foreign.pth')
        with pytest.raises(ValueError, match='not one weight of the checkpoint fits the model'):
            run.train('--cfg-options', *TINY, f'load_from={tmp_path}/foreign.pth')

    def test_resuming_from_an_inference_checkpoint(self, run, trained, tmp_path) -> None:
        checkpoint = torch.load(trained, weights_only=True)
        torch.save(dict(meta=dict(), state_dict=checkpoint['state_dict']), tmp_path / 'published.pth')
        with pytest.raises(ValueError, match='cannot be resumed from, it has no epoch, iter, optimizer, message_hub'):
            run.train('--resume', '--cfg-options', f'load_from={tmp_path}/published.pth')

    @pytest.mark.parametrize('wrong, right',
                             [('optim_wraper', 'optim_wrapper'), ('custom_hook', 'custom_hooks'),
                              ('train_dataloder', 'train_dataloader'), ('default_hook', 'default_hooks'),
                              ('param_schedulers', 'param_scheduler'), ('model_wraper_cfg', 'model_wrapper_cfg')])
    def test_misspelt_keys(self, run, wrong, right) -> None:
        run.config.write_text(run.config.read_text() + f'\n{wrong} = dict()\n')
        with pytest.raises(ValueError, match=f"unknown config key '{wrong}', did you mean '{right}'"):
            run.train()
        assert not run.work.exists()

    def test_names_of_variables_in_stock_configs_are_no_misspelt_keys(self) -> None:
        folder = Path(mmseg.__file__).parent / '.mim/configs/_base_'
        configs = sorted(folder.rglob('*.py'))
        if not configs:
            pytest.skip('this installation of MMSegmentation has no configs')
        for config in configs:
            check_keys(Config.fromfile(config), str(config))

    def test_unknown_option(self, run) -> None:
        with pytest.raises(
                ValueError, match="--cfg-options optim_wraper.lr: the config has no key 'optim_wraper', did you mean"):
            run.train('--cfg-options', 'optim_wraper.lr=1')

    def test_missing_parts_of_the_config(self, run, trained) -> None:
        run.config.write_text(run.config.read_text().replace('test_evaluator =',
                                                             'evaluator =').replace('optim_wrapper =', 'wrapper ='))
        with pytest.raises(ValueError, match='has no test_evaluator'):
            run.test(trained)
        with pytest.raises(ValueError, match='has no optim_wrapper'):
            run.train()

    def test_what_options_of_the_tools_need(self, run, trained) -> None:
        with pytest.raises(ValueError, match='--out needs test_evaluator to be a single dict'):
            run.test(trained, '--out', 'out', '--cfg-options', 'test_evaluator=[]')
        with pytest.raises(ValueError, match='default_hooks.visualization'):
            run.test(trained, '--show-dir', 'out', '--cfg-options', 'default_hooks.visualization=None')
        with pytest.raises(ValueError, match='--tta needs tta_pipeline'):
            run.test(trained, '--tta', '--cfg-options', 'tta_pipeline=None')
        with pytest.raises(ValueError, match='to be OptimWrapper, got Other'):
            run.train('--amp', '--cfg-options', 'optim_wrapper.type=Other')
        if not torch.cuda.is_available():
            with pytest.raises(ValueError, match='--amp needs a GPU'):
                run.train('--amp')

    def test_nan_loss_stops_before_a_checkpoint_is_written(self, run) -> None:
        with pytest.raises(ValueError, match=r'not finite at iteration 2 \(rank 0\): loss = nan, loss_extra = nan'):
            run.train('--cfg-options', 'model.nan_at=2')
        assert not list(run.work.glob('*.pth')) and not (run.work / 'last_checkpoint').exists()


def test_data_sets_of_one_name_are_refused(load_tool) -> None:
    tool = load_tool('tools/test.py')
    first, second = (AnomalyDataset(dataset_name=name, lazy_init=True) for name in 'AB')
    assert tool.names_of(RepeatDataset(first, 2, lazy_init=True)) == ['A']
    tool.check_names(ConcatDataset([first, second], lazy_init=True))
    with pytest.raises(ValueError, match='several data sets under the name A: their pixels would be pooled'):
        tool.check_names(ConcatDataset([first, second, first], lazy_init=True))
