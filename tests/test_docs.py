"""The documents keep their word: links lead somewhere, files that they name exist, and commands are known."""

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from functools import cache
from io import StringIO
from pathlib import Path

import pytest

from voicegraft.cli.verbs import GROUPS, VERBS, main

ROOT = Path(__file__).resolve().parents[1]
HISTORY = ROOT / "docs" / "LOG.md"  # tells of files as they were called then
PAGES = [ROOT / "README.md", *sorted(p for p in ROOT.glob("docs/**/*.md") if p != HISTORY)]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
CONFIGS = ROOT / "voicegraft" / "recipes" / "configs"

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(
    r"(?<![\w/.<-])((?:[\w-]+/)+[\w-]+\.(?:py|sh|yaml|npz|svg)|(?:voicegraft|docs|tests|tools|benchmarks)/[\w/-]+(?:\.\w+)?)(?![\w*])"
)
COMMAND = re.compile(r"(?<!from )\bvoicegraft (?:(recipe|evaluate) ([a-z_]+)|([a-z]+(?:-[a-z]+)*)\b)")
MODULE = re.compile(r"-m ((?:voicegraft|benchmarks|tools)[\w.]*)")
IN_CODE = re.compile(r"```.*?```|`[^`\n]+`|^ {4,}\S[^\n]*$", re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page: Path, text: str) -> Iterator[str]:
    for link in LINK.findall(text):
        if link.startswith(("https:", "http:", "mailto:")):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            yield link


def missing_paths(text: str) -> Iterator[str]:
    """Files of the repository that are named and not there. Work folders (``runs/mine``) are the reader's own."""
    for path in PATH.findall(LINK.sub("", text)):
        if path.startswith(("runs/", "work/")) and not path.endswith(".sh"):
            continue
        if not any((base / path).exists() for base in (ROOT, ROOT / "voicegraft", CONFIGS, CONFIGS.parent)):
            yield path


@pytest.mark.parametrize("page", [*PAGES, HISTORY], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert list(dead_links(page, page.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    assert list(missing_paths(TEXTS[page])) == []


def test_functions_stand_in_the_files_that_are_named_with_them() -> None:
    pairs = {pair for text in TEXTS.values() for pair in re.findall(r"`([A-Za-z_.]+)` (?:in |\()`([\w/]+\.py)`", text)}
    assert len(pairs) > 8
    for name, path in sorted(pairs):
        file = next(base / path for base in (ROOT, ROOT / "voicegraft") if (base / path).is_file())
        defined = rf"^\s*(?:def |class ){name.split('.')[-1]}\b|^{name}\b.* ="
        assert re.search(defined, file.read_text(encoding="utf-8"), re.MULTILINE), f"{name} is not in {path}"


def test_sources_name_documents_that_exist() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    sources = [ROOT / name for name in tracked if name.endswith((".py", ".yaml", ".sh")) and "tests/" not in name]
    named = {
        (source, name)
        for source in sources
        for name in re.findall(r"docs/[\w/-]+\.md", source.read_text(encoding="utf-8"))
    }
    assert [
        f"{source.relative_to(ROOT)}: {name}" for source, name in sorted(named) if not (ROOT / name).is_file()
    ] == []


def command_lines(text: str) -> Iterator[str]:
    """Commands of voicegraft in blocks of code, each in one line without its comment."""
    for block in re.findall(r"```\n(.*?)```|((?:^ {4,}\S.*\n)+)", text, re.DOTALL | re.MULTILINE):
        for line in re.sub(r"\\\n\s*", " ", "".join(block)).splitlines():
            if line.strip().startswith("voicegraft "):
                yield line.split(" #")[0].strip()


@pytest.fixture(scope="module")
def words_of_help() -> Callable[..., set[str]]:
    @cache
    def words(*verb: str) -> set[str]:
        told = StringIO()
        with redirect_stdout(told), suppress(SystemExit):
            main([*verb, "--help"])
        return set(re.findall(r"[\w-]+", told.getvalue()))

    return words


def test_verbs_are_known() -> None:
    found = {
        (group, name or verb)
        for text in TEXTS.values()
        for code in IN_CODE.findall(text)
        for group, name, verb in COMMAND.findall(code)
    }
    assert ("recipe", "tokenize") in found and ("", "speak") in found  # the search itself works
    known = {"": {*VERBS, *GROUPS}, **GROUPS}
    assert [pair for pair in sorted(found) if pair[1] not in known[pair[0]]] == []


def test_options_and_keys_are_known(words_of_help: Callable[..., set[str]]) -> None:
    """Every --option and key= of a command is in that command's own help."""
    lines = {line for text in TEXTS.values() for line in command_lines(text)}
    assert len(lines) > 20
    unknown = []
    for line in sorted(lines):
        _, verb, name, *_ = f"{line} - -".split()
        words = words_of_help(verb, name) if verb in ("recipe", "evaluate", "listen-test") else words_of_help(verb)
        said = re.findall(r" (--[a-z-]+)", line) + re.findall(
            r"[ '](\w+)[\w.]*=", re.sub(r"--[a-z-]+ \S+=\S+", "", line)
        )
        unknown += [(line, word) for word in said if word not in words]
    assert unknown == []


def test_modules_exist() -> None:
    modules = {module for text in TEXTS.values() for module in MODULE.findall(text)}
    assert modules
    missing = [m for m in modules if not (ROOT / f"{m.replace('.', '/')}.py").is_file()]
    assert sorted(missing) == []


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {name for text in TEXTS.values() for name in re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE)}
    assert "speak" in named
    assert [name for name in sorted(named) if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


def test_the_numbers_of_the_readme_stand_in_the_reports() -> None:
    reports = (ROOT / "voicegraft" / "packs").glob("*/EVALUATION.md")
    told = "".join(report.read_text(encoding="utf-8") for report in reports)
    section = TEXTS[ROOT / "README.md"].split("## How good is it")[1].split("\n## ")[0]
    numbers = re.findall(r"\d\.\d{2,}", section)
    assert len(numbers) >= 4
    assert [number for number in numbers if not re.search(rf"\b{re.escape(number)}\b", told)] == []


def test_a_dead_link_and_a_missing_file_are_seen() -> None:
    assert list(dead_links(ROOT / "README.md", "[a](docs/nothing.md) [b](README.md#no-such-part) [c](LICENSE)")) == [
        "docs/nothing.md",
        "README.md#no-such-part",
    ]
    assert list(missing_paths("`fusion/nothing.py`, `fusion/mole.py`, tests/nothing/, `runs/mine/a.jsonl`")) == [
        "fusion/nothing.py",
        "tests/nothing/",
    ]
