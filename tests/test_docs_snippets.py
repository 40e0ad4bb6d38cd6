# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""The Python blocks of README and docs load or run, worked examples run as printed, quoted messages are real ones."""
import ast
import gc
import mmap
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import mmseg.registry
import pytest
import torch
from documents import DOCUMENTS, ROOT, blocks, commands, is_config, named_blocks, tool_call
from mmengine.config import Config
from mmengine.registry import FUNCTIONS, Registry
from mmseg.registry import MODELS

#: Pages whose Python blocks another test runs.
RUN_ELSEWHERE = {'inference.md': 'tests/test_apis/test_inference_doc.py'}
PAGES = [page for page in DOCUMENTS if blocks(page, 'python') and page.name not in RUN_ELSEWHERE]
#: What makes the runs of the worked examples short: two iterations, no processes for data.
NO_WORKERS = [
    f'{part}_dataloader.{option}' for part in ('train', 'val', 'test')
    for option in ('num_workers=0', 'persistent_workers=False')
]
SHORT = {
    'tools/train.py': ['--cfg-options', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2', *NO_WORKERS],
    'tools/test.py': ['--cfg-options', *NO_WORKERS[-2:]],
    'tools/check_data.py': ['--workers', '0'],
    'tools/analysis_tools/evaluate_scores.py': ['--workers', '0']
}
#: Messages of libraries in docs/troubleshooting.md: those in PyTorch's binaries, and one that importing raises.
OF_PYTORCH = ('Expected to have finished reduction in the prior iteration before starting a new one.',
              "It is possible that dataloader's workers are out of shared memory.")
OF_MMCV_LITE = "No module named 'mmcv._ext'"


@pytest.fixture
def forget_mine() -> Iterator[None]:
    """Forget the modules below ``mine``, which the pages have the reader write, and what they registered."""
    yield
    for registry in [FUNCTIONS, *(value for value in vars(mmseg.registry).values() if isinstance(value, Registry))]:
        names = [name for name, value in registry.module_dict.items() if is_mine(getattr(value, '__module__', ''))]
        for name in names:
            del registry.module_dict[name]
    for name in [name for name in sys.modules if is_mine(name)]:
        del sys.modules[name]


def is_mine(module: str) -> bool:
    return module.split('.')[0] == 'mine'


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget_mine: None) -> Path:
    """A folder with links to what is in the root of the repository; Python finds modules there, too."""
    for name in ('configs', 'projects', 'tools'):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv('LOCAL_RANK', '0')
    return tmp_path


@pytest.fixture
def make_toy_files(root: Path, load_tool: Callable[[str], ModuleType]) -> Callable[[int], None]:
    """What `make demo` leaves for the worked examples, of few streets: data, an untrained segmenter."""

    def make(num_test: int) -> None:
        load_tool('demo/toy_streets.py').make_toy_streets(
            root / 'data/toy', seed=0, num_train=8, num_val=1, num_objects=8, num_test=num_test, progress=False)
        torch.manual_seed(0)
        model = MODELS.build(Config.fromfile('configs/toy/segmenter.py').model)
        checkpoint = root / 'work_dirs/toy/segmenter/iter_250.pth'
        checkpoint.parent.mkdir(parents=True)
        torch.save(dict(state_dict=model.state_dict()), checkpoint)

    return make


@pytest.fixture
def freeze() -> Iterator[None]:
    """Spare the garbage collections of data sets the objects that are there, which would take most of the time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def write_files(page: Path, root: Path) -> list[str]:
    """Write the files that a page names; returns their texts."""
    files = named_blocks(page)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return list(files.values())


def run_code(page: Path) -> None:
    """Run the blocks of a page that are neither configs nor files, one after another, as one program."""
    code = [block for block in blocks(page, 'python') if not is_config(block)]
    namespace: dict = {}
    for block in [block for block in code if block not in named_blocks(page).values()]:
        exec(compile(block, str(page), 'exec'), namespace)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_python_blocks(page: Path, root: Path) -> None:
    """Configs load; code is Python, and runs where it stands in a file."""
    files = write_files(page, root)
    for number, block in enumerate(blocks(page, 'python')):
        compile(block, str(page), 'exec')
        if is_config(block):
            path = next((root / name for name, text in named_blocks(page).items() if text == block), None)
            if path is None:
                path = root / f'leaf{number}.py'
                path.write_text(block.replace("'./", f"'{ROOT}/configs/"))
            cfg = Config.fromfile(path)
            assert cfg.model.type in ('DissimilaritySegmentor', 'AnomalySegmentor')
            assert all('pipeline' in dataset for dataset in cfg.test_dataloader.dataset.datasets)
    if not files:
        run_code(page)


def test_pages_that_others_run() -> None:
    for name, test in RUN_ELSEWHERE.items():
        assert not (ROOT / 'docs' / name).exists() or (ROOT / test).exists()
    assert len(PAGES) > 5


@pytest.mark.parametrize('page, num_test', [('adding_a_method.md', 2), ('adding_a_benchmark.md', 24)])
def test_worked_example(page: str, num_test: int, root: Path, make_toy_files: Callable[[int], None], freeze: None,
                        load_tool: Callable[[str], ModuleType], forget_runs: Callable[[], None]) -> None:
    """All files, all code and all commands of the page, in their order."""
    make_toy_files(num_test)
    path = ROOT / 'docs' / page
    files = write_files(path, root)
    assert files and sum(len(text.splitlines()) for text in files) < 60
    run_code(path)
    results: list[Any] = []
    for command in commands(path):
        forget_runs()
        tool, arguments = tool_call(command)
        arguments = [argument.replace('iter_200.pth', 'iter_2.pth') for argument in arguments]
        results.append(load_tool(tool).main([*arguments, *SHORT[tool]]))
    if page == 'adding_a_method.md':
        runner, trained, untrained = results
        assert runner.iter == 2
        assert runner.message_hub.get_scalar('train/decode.loss_impurity').current() > 0
        assert trained.keys() == untrained.keys() and trained != untrained
        assert 0 < trained['ToyRoadAnomaly/AP'] < 100 and 0 < trained['ToyCityscapes/mIoU'] < 100
    else:
        num_problems, tested, scored = results
        assert num_problems == 0
        assert {'LostCargo/AP', 'LostCargo/FPR80', 'ToyRoadAnomaly/AP'} <= tested.keys()
        assert scored['LostCargo/AP'] == tested['LostCargo/AP'] != tested['ToyRoadAnomaly/AP']


# Messages


def shape_of(text: str) -> str:
    """A message with one space between words, and '...' for whatever is filled in."""
    return re.sub(r'\.{3,}', '...', ' '.join(text.split()))


def messages_of(path: Path) -> Iterator[str]:
    """All strings of a Python file, '...' in the place of what is formatted into them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield shape_of(node.value)
        elif isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else '...' for part in node.values)
            yield shape_of(''.join(parts))


@pytest.fixture(scope='module')
def messages() -> list[str]:
    sources = [path for folder in ('demo', 'projects', 'tools') for path in (ROOT / folder).rglob('*.py')]
    scripts = [path.read_text() for path in (ROOT / 'tools').glob('*.sh')]
    return [message for path in sources for message in messages_of(path)] + scripts


def is_printed(quote: str, messages: list[str]) -> bool:
    quote = re.sub(r'^(\.\.\. )|( ?\.\.\.)$', '', shape_of(quote))
    assert len(quote.replace('...', '')) > 12, quote
    return any(quote in message for message in messages)


def quotes() -> list[str]:
    return [line for block in blocks(ROOT / 'docs/troubleshooting.md', 'text') for line in block.splitlines()]


def test_quoted_messages_are_printed(messages: list[str]) -> None:
    found = [quote for quote in quotes() if quote not in (*OF_PYTORCH, OF_MMCV_LITE)]
    assert len(found) > 25
    assert not [quote for quote in found if not is_printed(quote, messages)]
    assert not is_printed('... does not fit the modal: ...', messages)


def test_quoted_messages_of_libraries() -> None:
    assert {*OF_PYTORCH, OF_MMCV_LITE} <= set(quotes())
    with pytest.raises(ModuleNotFoundError, match=re.escape(OF_MMCV_LITE)):
        import mmcv.ops  # noqa: F401
    binaries = [Path(torch.__file__).parent / 'lib' / name for name in ('libtorch_cpu.so', 'libtorch_python.so')]
    for message in OF_PYTORCH:
        words = message.rstrip('.').encode()
        assert any(contains(path, words) for path in binaries), message


def contains(path: Path, words: bytes) -> bool:
    with open(path, 'rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(words) >= 0
