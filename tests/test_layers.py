"""The architecture, enforced: who may import whom, what nobody may do, and that importing does nothing."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import voicegraft

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "voicegraft"
MODULES = sorted(PACKAGE.rglob("*.py"))

# layer -> the layers it may import besides itself
_BASE = {"core", "audio", "encoders", "text", "tokenizers", "data"}
_MODELS = _BASE | {"fusion", "acoustic", "guard"}
_PRODUCTS = _MODELS | {"inference", "export"}
MAY_IMPORT = {
    "core": set(),
    "audio": {"core"},
    "encoders": {"core", "audio"},
    "text": {"core"},
    "tokenizers": {"core", "audio", "encoders", "text"},
    "data": _BASE - {"data"},
    "train": {"core"},
    "fusion": _BASE,
    "acoustic": _BASE,
    "guard": _BASE,
    "inference": _MODELS,
    "export": _MODELS | {"inference"},
    "teachers": _MODELS | {"inference"},
    "evaluation": _PRODUCTS,
    "recipes": _PRODUCTS | {"train", "evaluation", "teachers"},
    "serve": {"core", "inference"},
    "cli": _PRODUCTS | {"train", "evaluation", "recipes", "serve"},
    "__main__": {"cli"},
    "": _MODELS | {"inference"},  # the public names, for type checkers
}

UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNPICKLING_CALLS = {"torch.load", "torch.hub.load", "pandas.read_pickle", "yaml.load", "yaml.unsafe_load"}


@cache
def parsed(source: str) -> ast.Module:
    return ast.parse(source)


def imported_modules(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """(line, absolute name) of every import in the file; `from a import b` counts as a and as a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")
            base = parents[: len(parents) - node.level + is_package] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield node.lineno, origin
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def layer_offences(source: str, module: str, is_package: bool = False) -> list[tuple[int, str]]:
    """(line, complaint) for every import against the table."""
    parts = module.split(".")
    layer = parts[1] if len(parts) > 1 else ""
    allowed = MAY_IMPORT.get(layer, set()) | {layer}
    offences = []
    for line, name in imported_modules(parsed(source), module, is_package):
        target = name.split(".")
        # `from voicegraft import __version__` names no layer.
        if target[0] == "voicegraft" and len(target) == 2 and target[1] in voicegraft.__all__:
            offences.append((line, f"{target[1]} is a public name: inside the package, import it from its own module"))
        if target[0] == "voicegraft" and len(target) > 1 and target[1] in MAY_IMPORT.keys() - allowed:
            offences.append((line, f"{layer or 'the package itself'} must not import {target[1]}"))
    return sorted(set(offences))


def safety_offences(source: str) -> list[tuple[int, str]]:
    """(line, complaint) for every way to run code that came with data."""
    tree = parsed(source)
    offences = []
    for line, name in imported_modules(tree, "", False):
        if name.split(".")[0] in UNPICKLERS:
            offences.append((line, f"imports {name.split('.')[0]}"))
        elif name in UNPICKLING_CALLS:
            offences.append((line, f"imports {name}"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in UNPICKLING_CALLS:
            offences.append((node.lineno, f"uses {ast.unparse(node)}"))
        elif isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "allow_pickle"):
            if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                offences.append((node.value.lineno, f"sets {node.arg}={ast.unparse(node.value)}"))
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value in ("trust_remote_code", "allow_pickle"):
                    offences.append((value.lineno, f"hides {key.value} in a dictionary"))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
            offences.append((node.lineno, f"calls {node.func.id}"))
    return sorted(set(offences))


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def report(offences: list[tuple[Path, int, str]]) -> str:
    return "\n".join(f"{path.relative_to(ROOT)}:{line}: {complaint}" for path, line, complaint in offences)


def test_every_module_belongs_to_a_layer() -> None:
    tops = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES} - {"__init__"}
    assert "core" in tops
    assert tops <= MAY_IMPORT.keys(), f"state the layer of {tops - MAY_IMPORT.keys()} in MAY_IMPORT"


def test_imports_go_down_only() -> None:
    offences = [
        (path, line, complaint)
        for path in MODULES
        for line, complaint in layer_offences(path.read_text(), dotted(path), path.name == "__init__.py")
    ]
    assert not offences, report(offences)


def test_the_table_itself_has_no_circle() -> None:
    done: set[str] = set()
    while left := MAY_IMPORT.keys() - done:
        ready = {layer for layer in left if MAY_IMPORT[layer] <= done}
        assert ready, f"these layers import in a circle: {left}"
        done |= ready


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import one another, directly or not (Tarjan's strongly connected components)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        stack.append(module)
        for target in sorted(imports.get(module, ())):
            if target not in number:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], number[target])
        if low[module] == number[module]:
            group = stack[stack.index(module) :]
            del stack[-len(group) :]
            if len(group) > 1 or module in imports.get(module, ()):
                found.append(sorted(group))

    for module in sorted(imports):
        if module not in number:
            visit(module)
    return found


@cache
def import_graph() -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports, wherever in the file, for types only too."""
    names = {dotted(path) for path in MODULES}
    return {
        dotted(path): {
            name
            for _, name in imported_modules(parsed(path.read_text()), dotted(path), path.name == "__init__.py")
            if name in names and name != dotted(path) and not dotted(path).startswith(f"{name}.")
        }
        for path in MODULES
    }


def test_no_files_import_each_other_in_a_circle() -> None:
    assert not circles(import_graph())


def test_the_circle_check_sees_circles() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_the_package_imports_nothing_that_stands_beside_it() -> None:
    beside = {"pocket", "benchmarks", "tools", "tests", "voicegraft_listening"}
    assert all((ROOT / name).is_dir() for name in beside)
    users = {
        (path, name)
        for path in MODULES
        for _, name in imported_modules(ast.parse(path.read_text()), dotted(path), path.name == "__init__.py")
        if name.split(".")[0] in beside
    }
    assert not users


def test_the_listening_test_needs_little_of_the_package() -> None:
    mine = sorted((ROOT / "voicegraft_listening").glob("*.py"))
    imports = {name for path in mine for _, name in imported_modules(ast.parse(path.read_text()), dotted(path), False)}
    layers = {name.split(".")[1] for name in imports if name.startswith("voicegraft.")}
    assert mine and layers <= {"audio", "core", "evaluation"}


def test_only_a_graft_imports_whole_recipes() -> None:
    """A whole recipe is what has a command line; what two recipes share lies elsewhere."""
    recipes = "voicegraft.recipes."
    whole = {dotted(path) for path in MODULES if "\ndef main(" in path.read_text()}
    users = {
        f"{module} imports {target}"
        for module, targets in import_graph().items()
        if module.startswith(recipes) and not module.startswith(f"{recipes}graft")
        for target in targets & whole
    }
    known = {f"{recipes}train_semantic imports {recipes}align"}  # to be opened
    assert users <= known


def test_nothing_runs_code_that_came_with_data() -> None:
    offences = [(path, line, complaint) for path in MODULES for line, complaint in safety_offences(path.read_text())]
    assert not offences, report(offences)


@pytest.mark.parametrize(
    ("source", "module", "is_package", "line"),
    [
        ("import voicegraft.cli", "voicegraft.core.errors", False, 1),
        ("x = 1\nfrom voicegraft import data", "voicegraft.train.loop", False, 2),
        ("from ..acoustic import vocoder", "voicegraft.fusion.mole", False, 1),
        ("from ..acoustic import vocoder", "voicegraft.fusion", True, 1),
        ("from .. import recipes", "voicegraft.inference.speaker", False, 1),
        ("def f():\n    from voicegraft.data.shards import g", "voicegraft.serve.app", False, 2),
        ("from voicegraft.core.errors import VoicegraftError", "voicegraft.train.loop", False, None),
        ("from . import loop\nfrom voicegraft import __version__", "voicegraft.train.step", False, None),
        ("from .loop import run", "voicegraft.train", True, None),
        ("from voicegraft.inference import speaker", "voicegraft", True, None),
        ("from voicegraft import Speaker", "voicegraft.cli.speak", False, 1),
    ],
)
def test_the_layer_check_sees_each_kind_of_import(source: str, module: str, is_package: bool, line: int | None) -> None:
    lines = [offence[0] for offence in layer_offences(source, module, is_package)]
    assert lines == ([] if line is None else [line])


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import torch\ntorch.load('x')",
        "from torch import load",
        "numpy.load('x', allow_pickle=True)",
        "Model.from_pretrained('x', trust_remote_code=flag)",
        "options = {'trust_remote_code': True}",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "eval(text)",
    ],
)
def test_the_safety_check_sees_each_kind_of_danger(source: str) -> None:
    assert safety_offences(source)


def test_the_safety_check_lets_safe_loading_pass() -> None:
    assert not safety_offences("import yaml\nyaml.safe_load(t)\nnumpy.load('x', allow_pickle=False)\nmodel.eval()")


def run_python(script: str, stdin: str = "") -> str:
    """In a process of its own: in this one, other tests have imported and configured things already."""
    run = subprocess.run(
        [sys.executable, "-c", script], input=stdin, cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


IMPORT_ALL = """
import importlib, logging, os, random, signal, socket, sys
import accelerate, peft, torch, transformers  # what these do on import is theirs

def refuse(*args, **kwargs):
    raise AssertionError("wants the network")

def state():
    return {
        "folder": os.getcwd(), "environment": dict(os.environ), "log handlers": list(logging.root.handlers),
        "interrupts": signal.getsignal(signal.SIGINT), "seed": (random.getstate(), torch.initial_seed()),
        "threads": torch.get_num_threads(), "type": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
    }

socket.socket.connect = refuse
sys.argv = ["probe", "--not-an-option"]
before = state()
for name in sys.stdin.read().split():
    importlib.import_module(name)
    changed = [key for key, value in state().items() if value != before[key]]
    assert not changed, f"importing {name} changes {changed}"
"""


@pytest.mark.slow
def test_importing_does_nothing() -> None:
    names = [dotted(path) for path in MODULES if path.name != "__main__.py"]
    assert run_python(IMPORT_ALL, stdin="\n".join(names)) == "", "importing prints"


def test_the_package_and_its_plain_values_come_without_torch() -> None:
    run_python(
        "import voicegraft, voicegraft.core.errors, voicegraft.core.config, sys\n"
        "assert not {'torch', 'transformers', 'numba'} & sys.modules.keys(), 'slow to import'"
    )
