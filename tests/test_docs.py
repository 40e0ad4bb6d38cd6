# Copyright (c) mgcda authors. Licensed under the Apache License, Version 2.0.
"""What the README and the other documents name exists, and their commands are accepted by the tools."""
import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
from documents import DOCUMENTS, ROOT, commands, tool_call
from mmengine.config import Config

COMMANDS_OF_OTHERS = {'pip', 'mkdir', 'cp', 'source', 'git'}

documents = pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.name)


def headings(document: Path) -> list[str]:
    """Anchors of a document's headings, as GitHub makes them."""
    text = re.sub(r'^```.*?^```', '', document.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r'^#+ (.+)$', text, re.MULTILINE)
    return [re.sub(r'[^\w -]', '', title.lower()).replace(' ', '-') for title in titles]


class Accepted(Exception):
    """The arguments were parsed."""


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch, load_tool: Callable[[str], ModuleType]) -> Callable[[str, list[str]], None]:
    """Run a tool up to the point where its own parser has accepted the arguments."""

    def run(path: str, arguments: list[str]) -> None:
        tool = load_tool(path)
        accept = argparse.ArgumentParser.parse_args

        def stop(parser: argparse.ArgumentParser, *args, **kwargs) -> None:
            accept(parser, *args, **kwargs)
            raise Accepted

        with monkeypatch.context() as patch:
            patch.setattr(sys, 'argv', [path, *arguments])
            patch.setattr(argparse.ArgumentParser, 'parse_args', stop)
            with pytest.raises(Accepted):
                tool.main()

    return run


@documents
def test_links(document: Path) -> None:
    links = re.findall(r'(?:\]\(|src=")([^)"\s]+)', document.read_text())
    links = [link for link in links if '://' not in link]
    for link in links:
        path, _, anchor = link.partition('#')
        target = document.parent / path if path else document
        assert target.exists(), f'{document.name} links to {link}'
        if anchor:
            assert anchor in headings(target), f'{document.name} links to {link}'


def test_drawings() -> None:
    """They stand alone: shapes and text, nothing that is embedded or loaded."""
    drawings = sorted((ROOT / 'docs').rglob('*.svg'))
    assert drawings
    for drawing in drawings:
        elements = list(ElementTree.parse(drawing).iter())
        kinds = {element.tag.rpartition('}')[2] for element in elements}
        assert kinds <= {'svg', 'title', 'defs', 'marker', 'g', 'rect', 'path', 'ellipse', 'text', 'tspan'}, drawing


@documents
def test_named_files(document: Path) -> None:
    names = re.findall(r'(?<![\w/.-])((?:configs|demo|tools|docs|tests|projects)/[\w./-]*\w)', document.read_text())
    assert names
    missing = sorted({name for name in names if not (ROOT / name).exists()})
    assert not missing, f'{document.name} names {missing}'


def test_every_leaf_config_is_listed() -> None:
    leaves = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'configs').rglob('*.py')}
    leaves = {leaf for leaf in leaves if '/_base_/' not in leaf}
    assert len(leaves) > 20
    text = (ROOT / 'docs/configs.md').read_text()
    assert not sorted(leaf for leaf in leaves if leaf not in text)


def test_commands_are_accepted(parse: Callable[[str, list[str]], None]) -> None:
    targets = set(re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
    tools = set()
    for document in DOCUMENTS:
        for command in commands(document):
            if command[0] == 'make':
                assert command[1] in targets, command
            elif command[0] not in COMMANDS_OF_OTHERS:
                path, arguments = tool_call(command)
                tools.add(path)
                try:
                    parse(path, arguments)
                except SystemExit:
                    pytest.fail(f'{document.name}: {path} refuses {arguments}')
    # Every tool that a user calls is shown once at least.
    assert tools == {
        path.relative_to(ROOT).as_posix()
        for folder in ('demo', 'tools')
        for path in (ROOT / folder).rglob('*.py') if 'main()' in path.read_text() and path.name != 'check_env.py'
    }


def test_a_wrong_flag_would_be_found(parse: Callable[[str, list[str]], None]) -> None:
    with pytest.raises(SystemExit):
        parse('tools/train.py', ['configs/mgcda_cityscapes.py', '--resumee-from', 'x'])


def test_generator_is_copied_to_where_the_flagship_looks() -> None:
    source, target = re.search(r'cp (\S+) (\S+)', (ROOT / 'README.md').read_text()).groups()
    generator = Config.fromfile(ROOT / 'configs/mgcda_cityscapes.py').model.frozen.generator
    assert target == generator.checkpoint
    max_iters = Config.fromfile(ROOT / generator.config).max_iters
    assert source == f'work_dirs/{Path(generator.config).stem}/iter_{max_iters}.pth'
