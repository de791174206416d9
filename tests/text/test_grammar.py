"""The transducer against paths worked out by hand, and the grammar file against damage."""

from pathlib import Path

import numpy as np
import pytest

from voicegraft.core.errors import VoicegraftError
from voicegraft.text.english.grammar import GRAMMAR_FILE, Grammar
from voicegraft.text.english.transducer import Transducer


def machine(arcs: list[tuple[int, str, str, float, int]], finals: dict[int, float]) -> Transducer:
    """Arcs are (source, input, output, weight, target) in the order of their sources; "" is silent."""
    num_states = 1 + max(max(arc[0], arc[4]) for arc in arcs)
    weights = sorted({arc[3] for arc in arcs})
    return Transducer(
        {
            "start": np.array(0),
            "num_arcs": np.bincount([arc[0] for arc in arcs], minlength=num_states).astype(np.uint16),
            "input": np.array([ord(arc[1] or "\0") for arc in arcs], dtype=np.uint8),
            "output": np.array([ord(arc[2] or "\0") for arc in arcs], dtype=np.uint8),
            "weight": np.array([weights.index(arc[3]) for arc in arcs], dtype=np.uint8),
            "weights": np.array(weights, dtype=np.float32),
            "jump": np.array([arc[4] - arc[0] for arc in arcs], dtype=np.int32),
            "final_states": np.array(list(finals), dtype=np.int32),
            "final_weights": np.array(list(finals.values()), dtype=np.float32),
        }
    )


def test_takes_the_cheapest_path_and_not_the_first() -> None:
    dear_and_cheap = machine([(0, "a", "x", 3, 1), (0, "a", "y", 1, 1)], {1: 0})
    assert dear_and_cheap.apply("a") == "y"


def test_weighs_the_end_of_a_path_too() -> None:
    assert machine([(0, "a", "x", 1, 1), (0, "a", "y", 2, 2)], {1: 5, 2: 0}).apply("a") == "y"


def test_silent_arcs_put_out_before_between_and_after() -> None:
    arcs = [(0, "", "<", 0, 1), (1, "a", "b", 0, 1), (1, "", ">", 0, 2)]
    assert machine(arcs, {2: 0}).apply("aa") == "<bb>"


def test_a_cheaper_detour_of_silent_arcs_wins_over_a_short_one() -> None:
    arcs = [
        (0, "", "s", 5, 3),
        (0, "", "l", 1, 1),
        (1, "", "l", -1, 2),
        (2, "", "l", 1, 3),
        (3, "a", "", 0, 4),
    ]
    assert machine(arcs, {4: 0}).apply("a") == "lll"


def test_what_it_cannot_read_to_the_end_has_no_output() -> None:
    only_a = machine([(0, "a", "b", 0, 1)], {1: 0})
    assert only_a.apply("ab") is None
    assert only_a.apply("") is None
    assert only_a.apply("é") is None


def test_the_shipped_grammar_says_what_it_is_made_of() -> None:
    with np.load(GRAMMAR_FILE, allow_pickle=False) as archive:
        source = str(archive["source"])
    assert "nemo_text_processing" in source and "pynini" in source
    assert source.split(",")[0] in (GRAMMAR_FILE.parent / "NOTICE.txt").read_text()
    assert GRAMMAR_FILE.stat().st_size < 1_000_000


def test_the_shipped_grammar_speaks() -> None:
    grammar = Grammar.load()
    assert grammar.say("It is 5 kg") == "It is five kilograms"
    assert grammar.say("on 5 may 2012 at 5:30 pm") == "on the fifth of may twenty twelve at five thirty PM"
    assert Grammar.load() is grammar


@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign", "newer"])
def test_a_damaged_grammar_is_a_clear_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "english.npz"
    if damage == "truncated":
        path.write_bytes(GRAMMAR_FILE.read_bytes()[:100_000])
    elif damage == "foreign":
        np.savez(path, other=np.zeros(3))
    elif damage == "newer":
        with np.load(GRAMMAR_FILE) as archive:
            np.savez(path, **{**archive, "format": np.array(99)})
    with pytest.raises(VoicegraftError, match=r"english\.npz.*build_grammar"):
        Grammar.load(path)


def test_it_does_what_the_toolkit_does(tmp_path: Path) -> None:
    pynini = pytest.importorskip("pynini")
    from tools.build_grammar import _arrays

    words = pynini.string_map([("a", "one"), ("ab", "two"), ("b", "three")])
    toolkit = (words + pynini.closure(pynini.cross(" ", "-") + words)).optimize()
    ours = Transducer(_arrays(toolkit))
    for text in ["a", "ab", "a b", "ab b a", "b ab ab a b"]:
        assert ours.apply(text) == pynini.shortestpath(text @ toolkit).string()
