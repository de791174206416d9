"""What `from voicegraft import ...` gives: loaded when used, described, and all that documents need."""

import ast
import re
import sys
from pathlib import Path

import pytest

import voicegraft
from tests.test_layers import run_python

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.M | re.S)


def stated() -> dict[str, str]:
    """Public name -> module, as the package's own imports for type checkers say."""
    tree = ast.parse(Path(voicegraft.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def test_what_type_checkers_see_is_what_is_loaded() -> None:
    loaded = {name: f"voicegraft.{m}" for m, names in voicegraft._HOMES.items() for name in names.split()}
    assert loaded == stated() and sorted(loaded) == sorted(voicegraft.__all__)
    assert {*voicegraft.__all__, "__version__"} == set(dir(voicegraft))


@pytest.mark.parametrize("name, module", stated().items())
def test_every_public_name_is_defined_where_it_is_said_to_be(name: str, module: str) -> None:
    """By its source: the home of a name is the module that defines it, not one that passes it on."""
    source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
    assert name in {node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def test_importing_the_package_loads_nothing_and_a_name_only_its_own() -> None:
    run_python(
        "import voicegraft, sys\n"
        "assert not {'torch', 'numpy'} & sys.modules.keys()\n"
        "from voicegraft import Message, VoicegraftError\n"
        "assert Message.user('x').text == 'x' and 'torch' not in sys.modules"
    )
    assert voicegraft.Speaker is sys.modules["voicegraft.inference.speaker"].Speaker


def test_a_name_that_is_not_there_is_told() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Speeker'; its public names: .*Speaker"):
        _ = voicegraft.Speeker


def test_documents_use_public_names_only() -> None:
    seen = 0
    for page in PAGES:
        for block in PYTHON.findall(page.read_text(encoding="utf-8")):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.Import):
                    assert not any(alias.name.startswith("voicegraft.") for alias in node.names), page
                elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "voicegraft":
                    seen += 1
                    assert node.module == "voicegraft" and {a.name for a in node.names} <= {*voicegraft.__all__}, page
    assert seen


def test_the_api_page_describes_every_public_name_and_no_other() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^### `(\w+)", page, re.M)) == sorted(voicegraft.__all__)


def test_the_examples_of_the_api_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in PYTHON.findall((ROOT / "docs" / "api.md").read_text(encoding="utf-8")):
        exec(block, names)
    assert {path.name for path in tmp_path.iterdir()} == {"speech.flac", "speech.wav", "words.vtt", "answer.wav"}
    assert names["report"].status == "ok" and names["num_samples"] > 0  # type: ignore[attr-defined, operator]
