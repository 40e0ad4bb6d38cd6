# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""README and docs as data: their fenced blocks, the commands in them, and the tools that these run."""
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / 'README.md', ROOT / 'CHANGELOG.md', *sorted((ROOT / 'docs').glob('*.md'))]
#: Launcher -> the tool that it runs and the places of that tool's own positional arguments.
LAUNCHERS = {
    'dist_train.sh': ('tools/train.py', slice(0, 1), 2),
    'dist_test.sh': ('tools/test.py', slice(0, 2), 3),
    'slurm_train.sh': ('tools/train.py', slice(2, 3), 3),
    'slurm_test.sh': ('tools/test.py', slice(2, 4), 4)
}


def blocks(document: Path, language: str) -> list[str]:
    """Texts of the fenced blocks of a language."""
    return re.findall(rf'^```{language}\n(.*?)^```', document.read_text(), re.MULTILINE | re.DOTALL)


def named_blocks(document: Path) -> dict[str, str]:
    """Python blocks that a page has the reader write to a file, by its path: "The file `mine/x.py`:"."""
    pattern = r'The file `(\S+\.py)`[^\n]*\n\n```python\n(.*?)^```'
    return dict(re.findall(pattern, document.read_text(), re.MULTILINE | re.DOTALL))


def is_config(block: str) -> bool:
    """Whether a Python block is a config, which names its bases."""
    return re.search(r'^_base_ = ', block, re.MULTILINE) is not None


def commands(document: Path) -> Iterator[list[str]]:
    """Command lines of the fenced blocks and of inline code that runs a tool, in words."""
    lines = [line for block in blocks(document, 'bash') for line in block.replace('\\\n', ' ').splitlines()]
    lines += re.findall(r'`((?:python )?(?:demo|tools)/\S+\.(?:py|sh) [^`A-Z][^`]*)`', document.read_text())
    for line in lines:
        words = shlex.split(line, comments=True)
        while words:
            end = words.index('&&') if '&&' in words else len(words)
            command, words = words[:end], words[end + 1:]
            while re.match(r'[A-Z_]+=', command[0]):
                command = command[1:]
            yield command


def tool_call(command: list[str]) -> tuple[str, list[str]]:
    """The Python tool that a command runs in the end, and its arguments."""
    index = next(i for i, word in enumerate(command) if word.startswith(('demo/', 'tools/')))
    path, arguments = command[index], command[index + 1:]
    if path.endswith('.py'):
        return path, arguments
    tool, positional, rest = LAUNCHERS[Path(path).name]
    assert len(arguments) >= rest, f'{path} needs {rest} arguments'
    return tool, [*arguments[positional], '--launcher', 'pytorch', *arguments[rest:]]
