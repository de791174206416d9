"""Reading results: whole files of this test only, and raters who listened."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.listening import TRUTH, Opinion, honest, page_results, save, write_voices
from voicegraft.core.errors import VoicegraftError
from voicegraft_listening.page import ANCHOR, RECORDINGS, ListeningTestConfig, make_listening_test
from voicegraft_listening.results import Key, Rules, broken_rules, parse_rules, read_key, read_results

Row = dict[str, Any]


@pytest.fixture(scope="module")
def raw_key(tmp_path_factory: pytest.TempPathFactory) -> Row:
    folder = tmp_path_factory.mktemp("test")
    return make_listening_test(
        ListeningTestConfig(
            systems=tuple((name, write_voices(folder, name, 7)) for name in ("splendid", "middling", "horrible")),
            recordings=write_voices(folder, "narrator", 7),
            parts=("mos", "ab"),
            per_listener=20,
            out=folder / "out",
        )
    )


@pytest.fixture
def key(raw_key: Row, tmp_path: Path) -> Key:
    (tmp_path / "key.json").write_text(json.dumps(raw_key))
    return read_key(tmp_path / "key.json")


def first(results: Row, part: str) -> Row:
    return next(trial for trial in results["trials"] if trial["part"] == part)


def test_a_whole_file_is_read(raw_key: Row, key: Key, tmp_path: Path) -> None:
    results = page_results(raw_key, "ann", honest(random.Random(1)))
    (rater,), rejected = read_results([save(tmp_path, results)], key)
    assert not rejected and (rater.id, rater.device) == ("ann", "headphones")
    assert key.conditions == ["splendid", "middling", "horrible", RECORDINGS, ANCHOR]
    mos = [trial for trial in rater.trials if trial.part == "mos"]
    pairs = [trial for trial in rater.trials if trial.part == "ab"]
    assert len(mos) == 20 + 4 and sum(trial.repeated for trial in mos) == 4
    assert len(pairs) == 18 + 4 + 4 and sum(trial.repeated for trial in pairs) == 4
    for trial, row in zip(rater.trials, results["trials"], strict=True):
        assert trial.systems == tuple(raw_key["clips"][clip]["system"] for clip in row["clips"])
        assert trial.decision_sec == 1.5
        if trial.part == "ab":
            assert trial.winner == {"A": trial.systems[0], "B": trial.systems[1], "same": None}[row["answer"]]


def _set(name: str, value: Any) -> Callable[[Row], None]:
    return lambda results: results.update({name: value})


def _in_first(part: str, name: str, value: Any) -> Callable[[Row], None]:
    return lambda results: first(results, part).update({name: value})


def _drop_a_trial(results: Row) -> None:
    results["trials"].pop()


def _answer_twice(results: Row) -> None:
    results["trials"] += [first(results, "mos")] * 2


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_set("test", "0123456789abcdef"), "of another test"),
        (_set("kind", "recipe"), "not a results file"),
        (_set("format", 2), "this version reads"),
        (_set("listener", "../ann"), "listener is missing"),
        (_set("session", 5), "session is missing"),
        (_set("device", "a friend's ears"), "device or trials"),
        (_set("trials", {}), "device or trials"),
        (_set("trials", []), "not those that the page gives"),
        (_set("finished", ""), "was not finished"),
        (_drop_a_trial, "not those that the page gives"),
        (_answer_twice, "not those that the page gives"),
        (_set("trials", [7]), "trial 1: not a trial"),
        (_in_first("mos", "part", "ab"), "not as many clips"),
        (_in_first("mos", "clips", ["0123456789ab"]), "does not know"),
        (_in_first("mos", "clips", [[]]), "does not know"),
        (_in_first("mos", "scores", {"likeness": 6, "quality": 1}), "score of 1 to 5"),
        (_in_first("mos", "scores", {"likeness": True, "quality": 1}), "score of 1 to 5"),
        (_in_first("mos", "scores", {"likeness": 4}), "score of 1 to 5"),
        (_in_first("ab", "answer", "C"), "answer of A, B, same"),
        (_in_first("ab", "answer", []), "answer of A, B, same"),
        (_in_first("mos", "heard_ms", 5), "less time than the sound lasts"),
        (_in_first("mos", "heard_ms", "long"), "times are missing"),
        (_in_first("mos", "total_ms", 1), "run backwards"),
    ],
)
def test_forged_files_are_refused(
    raw_key: Row, key: Key, tmp_path: Path, damage: Callable[[Row], None], reason: str
) -> None:
    """Even with a checksum that fits."""
    results = page_results(raw_key, "ann", honest(random.Random(1)))
    damage(results)
    raters, (rejected,) = read_results([save(tmp_path, results, "ann")], key)
    assert not raters and reason in rejected.reason


def test_edited_and_damaged_files_are_refused(raw_key: Row, key: Key, tmp_path: Path) -> None:
    path = save(tmp_path, page_results(raw_key, "ann", lambda system, scale: TRUTH[system]))
    whole = path.read_text()
    changes = {
        whole.replace('"likeness": 5', '"likeness": 4', 1): "changed or damaged",
        whole.replace('"ann"', '"bob"'): "changed or damaged",
        whole.replace('"crc32"', '"crc"'): "changed or damaged",
        whole[:-20]: "cannot be read",
        "": "cannot be read",
        "[" * 100_000: "cannot be read",
        "[1, 2]": "not a results file",
        "\x00\xff": "cannot be read",
    }
    for text, reason in changes.items():
        assert text != whole
        path.write_text(text, encoding="latin-1")
        assert reason in read_results([path], key)[1][0].reason
    path.write_text(whole)
    assert read_results([path], key)[0]
    assert "cannot be read" in read_results([tmp_path / "none.json"], key)[1][0].reason


def test_of_two_files_by_one_listener_the_first_counts(raw_key: Row, key: Key, tmp_path: Path) -> None:
    early, late = (
        page_results(raw_key, name, honest(random.Random(seed)), seed) for name, seed in (("ann", 1), ("Ann", 2))
    )
    files = [save(tmp_path, late, "late"), save(tmp_path, early, "early"), save(tmp_path, early, "early (1)")]
    (rater,), rejected = read_results(files, key)
    assert rater.session == early["session"]
    reasons = {Path(one.file).stem: one.reason for one in rejected}
    assert "listener 'Ann' took the test before" in reasons["results-late"]
    assert len(reasons) == 2 and any("the same results as" in reason for reason in reasons.values())


def test_honest_raters_break_no_rule(raw_key: Row, key: Key, tmp_path: Path) -> None:
    for seed in range(20):
        results = page_results(raw_key, "ann", honest(random.Random(seed)), seed)
        (rater,), _ = read_results([save(tmp_path, results)], key)
        assert broken_rules(rater, Rules()) == []


def _by_truth(**changes: int) -> Opinion:
    """The truth but for some systems, with _ for a space."""
    truth = {**TRUTH, **{name.replace("_", " "): score for name, score in changes.items()}}
    return lambda system, scale: truth[system]


@pytest.mark.parametrize(
    ("opinion", "decide_ms", "expected"),
    [
        (_by_truth(low_anchor=4), 1500, {"anchor"}),
        (_by_truth(recordings=2), 1500, {"reference"}),
        (lambda system, scale: 3, 1500, {"anchor", "reference", "same"}),
        (_by_truth(), 100, {"fast"}),
        (_by_truth(recordings=1, low_anchor=5), 1500, {"anchor", "reference", "catch"}),
    ],
)
def test_bad_raters_are_caught_by_the_rule_for_them(
    raw_key: Row, key: Key, tmp_path: Path, opinion: Opinion, decide_ms: int, expected: set[str]
) -> None:
    results = page_results(raw_key, "eve", opinion, seed=3, decide_ms=decide_ms)
    (rater,), _ = read_results([save(tmp_path, results)], key)
    assert {rule.rule for rule in broken_rules(rater, Rules())} == expected
    off = parse_rules([f"{name}=off" for name in expected])
    assert broken_rules(rater, off) == []


def test_who_says_another_thing_the_second_time_is_caught(raw_key: Row, key: Key, tmp_path: Path) -> None:
    results = page_results(raw_key, "eve", _by_truth(splendid=5, middling=5, horrible=1, recordings=5))
    before: dict[str, Row] = {}
    for trial in results["trials"]:
        first_time = before.setdefault(",".join(sorted(trial["clips"])), trial)
        if trial is not first_time and trial["part"] == "mos":
            trial["scores"] = {scale: 6 - score for scale, score in trial["scores"].items()}
        elif trial is not first_time:
            first_time["answer"] = trial["answer"] = "A"  # the pair stands the other way round now
    (rater,), _ = read_results([save(tmp_path, results)], key)
    assert {"repeats", "flips"} <= {rule.rule for rule in broken_rules(rater, Rules())}


def test_who_always_says_a_is_caught(raw_key: Row, key: Key, tmp_path: Path) -> None:
    results = page_results(raw_key, "eve", _by_truth())
    for trial in results["trials"]:
        if trial["part"] == "ab":
            trial["answer"] = "A"
    (rater,), _ = read_results([save(tmp_path, results)], key)
    assert "same" in {rule.rule for rule in broken_rules(rater, Rules())}


def test_random_raters_are_caught(raw_key: Row, key: Key, tmp_path: Path) -> None:
    caught = 0
    for seed in range(50):
        rng = random.Random(seed)
        results = page_results(raw_key, "eve", lambda system, scale, rng=rng: rng.randint(1, 5), seed)
        (rater,), _ = read_results([save(tmp_path, results)], key)
        caught += bool(broken_rules(rater, Rules()))
    assert caught >= 48


def test_rules_are_told_by_name() -> None:
    assert parse_rules(["anchor=3", "fast=off"]) == Rules(anchor=3.0, fast=None)
    for text in ("anchor", "nose=1", "anchor=low", ""):
        with pytest.raises(VoicegraftError, match="NAME=NUMBER or NAME=off"):
            parse_rules([text])


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    for text in ("", "[]", "{}", '{"kind": "x", "format": 1}'):
        (tmp_path / "key.json").write_text(text)
        with pytest.raises(VoicegraftError, match=r"give its key\.json"):
            read_key(tmp_path / "key.json")
