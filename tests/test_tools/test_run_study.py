# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
import errno
import fcntl
import json
import multiprocessing
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine.config import Config
from tiny_dissimilarity import write_tiny_mgcda

from mgcda.evaluation.results import read_results, write_results
from mgcda.studies import read_study
from mgcda.utils.folder_lock import FolderInUse

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def study(load_tool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd) -> Callable[..., str]:
    """``study(content, *arguments)`` writes a study file and runs the tool on it in ``tmp_path``; what it prints."""
    main = load_tool('tools/run_study.py').main
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    monkeypatch.setenv('PYTHONPATH', f'{ROOT}/projects:{ROOT}/tests')

    def run(content: dict, *arguments: str) -> str:
        Config(content).dump('study.py')
        capfd.readouterr()
        main(['study.py', *arguments])
        return capfd.readouterr().out

    return run


def write_script(path: str, *lines: str) -> str:
    Path(path).write_text('\n'.join(('import sys', 'from pathlib import Path', *lines, '')))
    return path


def steps(*commands: str, **more) -> dict:
    """A study of commands that may run side by side."""
    entries = [dict(name=f'step {index}', command=command) for index, command in enumerate(commands)]
    return dict(dict(work_dir='work', steps=[entries]), **more)


def row(name: str = 'row') -> dict:
    """A row whose run fails soon."""
    Path('leaf.py').write_text('x = 1\n')
    return dict(name=name, config='leaf.py', checkpoint='none.pth')


def wait_for(path: Path) -> None:
    end = time.time() + 60
    while not path.exists():
        assert time.time() < end
        time.sleep(0.05)


def refuse_locks(*_: object) -> None:
    raise OSError(errno.ENOLCK, 'No locks available')


def start_study(load_tool) -> multiprocessing.Process:
    process = multiprocessing.get_context('fork').Process(
        target=load_tool('tools/run_study.py').main, args=(['study.py'], ))
    process.start()
    return process


def finish(content: dict, *stages: str) -> list:
    """Note these stages of all rows as done; their jobs."""
    Config(content).dump('study.py')
    jobs = read_study('study.py', ROOT).jobs
    for job in jobs:
        job.folder.mkdir(parents=True)
        for stage in job.stages:
            if stage.name in stages:
                job.finish(stage)
    return jobs


class TestSteps:

    def test_what_is_done_is_not_done_again(self, study) -> None:
        content = steps(write_script('tool.py', 'open("runs.txt", "a").write("x")') + ' --flag 1')
        study(content, '--skip-steps')
        assert not Path('runs.txt').exists()
        assert '[step 0] command done in' in study(content)
        assert '[step 0]' not in study(content)
        assert Path('runs.txt').read_text() == 'x'
        state = json.loads(Path('work/steps/step-0/state.json').read_text())['command']
        assert state['command'] == ['tool.py', '--flag', '1'] and state['seconds'] >= 0 and 'CPU' in state['hardware']

    def test_steps_of_a_group_run_side_by_side(self, study) -> None:
        # Each waits for what the other leaves behind.
        wait = ('import time', 'Path(sys.argv[1]).touch()', 'end = time.time() + 60',
                'while not Path(sys.argv[2]).exists():', '    assert time.time() < end', '    time.sleep(0.05)')
        tool = write_script('tool.py', *wait)
        assert study(steps(f'{tool} a b', f'{tool} b a'), '--jobs', '2').count('command done in') == 2

    def test_nothing_runs_after_a_step_that_failed(self, study, capfd) -> None:
        with pytest.raises(SystemExit, match='the runs need step 0, which failed'):
            study(steps(write_script('tool.py', 'print("a reason")', 'sys.exit(3)'), rows=[row()]))
        out = capfd.readouterr().out
        assert '[step 0] command failed (see work/steps/step-0/command.log):\na reason' in out
        assert '[row]' not in out and not Path('work/steps/step-0/state.json').exists()

    def test_another_command_of_the_same_step_is_refused(self, study) -> None:
        tool = write_script('tool.py')
        study(steps(f'{tool} a'))
        with pytest.raises(ValueError, match="steps/step-0 holds the command of another 'step 0': its command is"):
            study(steps(f'{tool} b'))

    def test_a_run_of_another_process_is_left_alone(self, study, load_tool) -> None:
        content = dict(work_dir='work', rows=[row()])
        Config(content).dump('study.py')
        with read_study('study.py', ROOT).rows[0].jobs[0].claimed():
            assert re.search(
                rf'\[row\] is run by another process: work/row is .* \(host .*, process {os.getpid()}, since 2',
                study(content))
        with pytest.raises(SystemExit, match='1 of 1 runs failed: row'):  # none.pth does not exist
            study(content)

    def test_a_step_of_another_process_is_waited_for_beside_the_others(self, study, load_tool, tmp_path: Path) -> None:
        tool = load_tool('tools/run_study.py')
        script = write_script('tool.py', 'Path(sys.argv[1]).touch()')
        Config(steps(f'{script} a', f'{script} b')).dump('study.py')
        thread = threading.Thread(target=tool.main, args=(['study.py'], ))
        with read_study('study.py', ROOT).steps[0][0].claimed():
            thread.start()
            wait_for(tmp_path / 'b')
            assert not Path('a').exists()
        thread.join(60)
        assert Path('a').exists()

    def test_what_outlives_a_killed_study_keeps_its_folder(self, study, load_tool, tmp_path: Path) -> None:
        script = write_script('tool.py', 'import time', 'Path("started").touch()', 'end = time.time() + 60',
                              'while not Path("go").exists() and time.time() < end:', '    time.sleep(0.05)')
        Config(steps(script)).dump('study.py')
        process = start_study(load_tool)
        wait_for(tmp_path / 'started')
        process.kill()
        process.join()
        job = read_study('study.py', ROOT).steps[0][0]
        end = time.time() + 60
        with pytest.raises(FolderInUse), job.claimed():
            pass
        Path('go').touch()
        while True:
            try:
                with job.claimed():
                    break
            except FolderInUse:
                assert time.time() < end
                time.sleep(0.05)

    def test_a_file_system_without_locks_is_warned_of(self, study, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fcntl, 'flock', refuse_locks)
        out = study(steps(write_script('tool.py')))
        assert '[step 0] the file system of work/steps/step-0 has no locks' in out and 'command done in' in out

    def test_errors_of_a_job_are_its_own(self, study, load_tool, capfd) -> None:
        content = dict(work_dir='work', rows=[dict(row(name), checkpoint=name) for name in ('best', 'last')])
        for job in finish(content, 'train'):
            for index in (1, 2):
                (job.folder / f'best_AP_iter_{index}.pth').touch()
        with pytest.raises(SystemExit, match='2 of 2 runs failed: best seed 0, last seed 0'):
            study(content)
        assert '[best seed 0] work/best/seed0 has several best checkpoints' in capfd.readouterr().out
        Path('work/best/seed0/state.json').write_text('{')
        assert 'best seed 0  work/best/seed0/state.json is damaged' in study(content, '--list')

    def test_words_of_a_command_may_hold_spaces(self, study) -> None:
        tool = write_script('a tool.py', 'Path(sys.argv[1]).touch()')
        study(steps(f"'{tool}' 'last of all'"))
        assert Path('last of all').exists()

    def test_an_interrupted_study_ends_what_it_runs(self, study, load_tool, tmp_path: Path, capfd) -> None:
        tool = write_script('tool.py', 'import time', 'Path("started").write_text("")', 'time.sleep(120)')
        Config(steps(tool)).dump('study.py')
        process = start_study(load_tool)
        wait_for(tmp_path / 'started')
        process.terminate()
        process.join(60)
        assert process.exitcode == 1 and 'interrupted; the same command goes on from here' in capfd.readouterr().err
        running = subprocess.run(['ps', '-eo', 'args'], capture_output=True, text=True).stdout
        assert not [line for line in running.splitlines() if line.endswith(' tool.py')]


class TestStudyFile:

    @pytest.mark.parametrize(
        'change, message',
        [(dict(steps=[]), 'study.py has neither steps nor rows'), (dict(work_dir=''), 'study.py lacks work_dir'),
         (dict(row=[]), 'study.py has the unknown key row; known are'),
         (dict(rows=[dict(name='a')]), 'study.py: rows lacks config'),
         (dict(rows=[dict(name='a', config='no.py')]), 'rows: config no.py does not exist'),
         (dict(steps=[dict(name='a')]), "steps: 'a' needs either train, a config, or command"),
         (dict(steps=[dict(name='a', command='no.py x')]), "steps: 'a' runs no.py, which does not exist"),
         (dict(steps=['a']), 'steps must be dicts'),
         (dict(rows=[dict(name='a', config='study.py', options=dict(work_dir='0'))]),
          "rows: 'a' has the option work_dir = '0', which a command line cannot hold"),
         (dict(rows=[dict(name='a', config='study.py', options=dict(work_dir='a b'))]), "work_dir = 'a b', which a"),
         (dict(rows=[dict(name='a', config='study.py', options=dict(work_dir='a),'))]), r"work_dir = 'a\),', which a"),
         (dict(rows=[dict(name='a', config='study.py', options=dict(load_from='a.pth'))]), 'has the option load_from')])
    def test_mistakes_are_named(self, study, change: dict, message: str) -> None:
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            study(steps(**change))

    def test_rows_need_folders_of_their_own(self, study) -> None:
        with pytest.raises(ValueError, match='several steps or rows have the folder work/a-b'):
            study(dict(work_dir='work', rows=[row('A + b'), row('a b')]))

    def test_wrong_options(self, study) -> None:
        with pytest.raises(ValueError, match='the study has no row b, but row'):
            study(dict(work_dir='work', rows=[row()]), '--only', 'b')
        with pytest.raises(ValueError, match='2 GPUs cannot be shared out to runs of 3'):
            study(steps(write_script('tool.py')), '--gpus', '0', '1', '--gpus-per-run', '3')


def table_of(folder: str) -> list[str]:
    return Path(folder, 'study.md').read_text().splitlines()


def test_table_of_what_is_done(study, load_tool) -> None:
    """A row that has changed since, and columns that no row has yet, are left out; a row a score."""
    rows = [dict(row('Changed'), config='other.py'), row('Scores'), dict(name='Later', config='leaf.py')]
    Path('other.py').write_text('test_cfg = 1\n')
    content = dict(work_dir='work', rows=rows, metrics=['mIoU', 'AP'], data_sets=['B', 'A'])
    finish(dict(content, rows=rows[:2]), 'test')
    for score in ('energy', 'msp'):
        entry = dict(num_images=1, num_normal=1, num_anomaly=1, metrics=dict(AP=50., AUROC=60.))
        write_results(f'work/scores/{score}/results.json',
                      dict(protocol='fishyscapes', mode='exact', data_sets=dict(A=entry, C=entry)))
    Path('other.py').write_text('test_cfg = 2\n')
    changed = "work/changed holds the test of another 'Changed': its config has changed since"
    assert f'[Changed] is left out of the table: {changed}' in study(content, '--only', 'Scores')
    assert table_of('work') == [
        '| method | protocol, mode | A AP |', '|---|---|---|', '| Scores: energy | fishyscapes, exact | 50.00 |',
        '| Scores: msp | fishyscapes, exact | 50.00 |'
    ]
    assert changed in study(content, '--list')


@pytest.mark.slow
def test_seeds_are_trained_tested_and_put_in_a_table(study, tmp_path: Path) -> None:
    config = write_tiny_mgcda(tmp_path)
    Path('longer.py').write_text(f"_base_ = '{config}'\n")
    rows = [
        dict(name='Tiny', config=str(config), seeds=[0, 1], options={'train_cfg.max_iters': 2}),
        dict(name='Longer', config='longer.py', options={'train_cfg.max_iters': 3})
    ]
    content = dict(work_dir='work', rows=rows, metrics=['AP', 'AUROC'])
    out = study(content, '--only', 'Tiny')
    assert '[Tiny seed 1] test done in' in out and '[Longer' not in out
    values = [read_results(f'work/tiny/seed{seed}/test/results.json')['data_sets'] for seed in (0, 1)]
    name = next(iter(values[0]))
    mean = sum(value[name]['metrics']['AP'] for value in values) / 2
    assert values[0][name]['metrics']['AP'] != values[1][name]['metrics']['AP']
    assert f'| Tiny (2 runs) | fishyscapes, streaming | {mean:.2f} ±' in '\n'.join(table_of('work'))
    assert not list(Path('work').rglob('*.npy'))
    out = study(content)
    assert 'study.py: 2 of 3 runs are done' in out and '[Tiny' not in out and len(table_of('work')) > 3
    assert 'Longer' in '\n'.join(table_of('work'))
    assert 'Longer seed 0  done in 00:' in study(content, '--list')
    content['rows'][0]['options'] = {'train_cfg.max_iters': 4}
    with pytest.raises(ValueError, match="holds the train of another 'Tiny seed 0': its command is another since"):
        study(content)
    assert os.listdir('work/longer/seed0/test')
