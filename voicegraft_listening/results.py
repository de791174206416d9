"""Results of a listening test: which files are whole and belong to the test, and which listeners can be trusted."""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from statistics import mean, median
from typing import Any

from voicegraft.core.errors import VoicegraftError
from voicegraft_listening.page import AB, ANCHOR, KEY_FORMAT, KEY_KIND, MOS, RECORDINGS, SCALES

_MAX_FILE_BYTES = 10 * 2**20
_ANSWERS = {"A": 0, "B": 1, "same": None}
_DEVICES = ("headphones", "loudspeakers", "built-in")
# Fewer pairs than this may well have one answer by chance.
_MIN_PAIRS = 8


@dataclass(frozen=True)
class Trial:
    """One clip rated, or one pair compared."""

    part: str  # mos or ab
    sentence: str
    systems: tuple[str, ...]  # one, or the two in the order in which they were offered
    clips: tuple[str, ...]
    scores: Mapping[str, int]  # mos: scale -> 1 to 5
    answer: str  # ab: A, B or same
    decision_sec: float  # from the end of what had to be heard to the answer
    repeated: bool  # the second time for this listener; not part of the scores

    @property
    def winner(self) -> str | None:
        """The system that was preferred, None for no difference."""
        index = _ANSWERS[self.answer]
        return None if index is None else self.systems[index]


@dataclass(frozen=True)
class Rater:
    id: str
    session: str
    device: str
    finished: str  # ISO time
    file: str
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Rejected:
    """A file that was not used."""

    file: str
    reason: str


@dataclass(frozen=True)
class Key:
    """Which clip is whose; see `listening.make_listening_test`."""

    test: str
    systems: tuple[str, ...]
    clips: Mapping[str, Mapping[str, Any]]
    parts: tuple[Mapping[str, Any], ...]

    @cached_property
    def conditions(self) -> list[str]:
        """Everybody who is rated: the systems, the recordings if there are any, the low anchor."""
        known = {clip["system"] for clip in self.clips.values()}
        return [*self.systems, *(name for name in (RECORDINGS, ANCHOR) if name in known)]


@dataclass(frozen=True)
class Rules:
    """When a listener is left out; None switches a rule off. A rule that has nothing to look at is kept."""

    anchor: float | None = 2.5  # mos: mean of all scores of the low anchor above this
    reference: float | None = 3.5  # mos: mean of all scores of the recordings below this
    repeats: float | None = 1.25  # mos: mean |first - second| score of repeated clips above this
    same: float | None = 0.95  # mos: one score's share on a scale above this; ab: one answer's share
    fast: float | None = 0.5  # both: median seconds from the end of the sound to the answer below this
    catch: float | None = 0.34  # ab: share of low-anchor pairs in which the anchor won, above this
    flips: float | None = 0.5  # ab: share of repeated pairs in which the other system won, above this


@dataclass(frozen=True)
class Broken:
    """A rule that a listener broke."""

    rule: str
    value: float
    limit: float


class _Bad(Exception):
    """Why a file is not used."""


def parse_rules(texts: Sequence[str]) -> Rules:
    """``NAME=VALUE`` or ``NAME=off`` -> rules; raises VoicegraftError for others."""
    names = [field.name for field in fields(Rules)]
    values: dict[str, float | None] = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            values[name] = None if value == "off" else float(value)
        except ValueError:
            name = ""
        if name not in names:
            raise VoicegraftError(
                f"expected a rule as NAME=NUMBER or NAME=off with a name of {', '.join(names)}, got {text!r}"
            )
    return Rules(**values)


def read_key(path: Path) -> Key:
    """Raises VoicegraftError if the file is not the key of a listening test."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["kind"] != KEY_KIND or raw["format"] != KEY_FORMAT:
            raise ValueError(f"it is a {raw['kind']} of format {raw['format']}")
        return Key(str(raw["test"]), tuple(raw["systems"]), dict(raw["clips"]), tuple(raw["parts"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VoicegraftError(
            f"cannot read {path} as the key of a listening test ({error!r}); give its key.json"
        ) from error


def read_results(paths: Sequence[Path], key: Key) -> tuple[list[Rater], list[Rejected]]:
    """Listeners in the order in which they finished, and the files that are not used, with reasons.

    Of several files under one listener's name the first to be finished counts.
    """
    listeners: list[Rater] = []
    rejected: list[Rejected] = []
    for path in paths:
        try:
            listeners.append(_read_rater(path, key))
        except _Bad as bad:
            rejected.append(Rejected(str(path), str(bad)))
    listeners.sort(key=lambda one: (one.finished, one.file))
    kept: dict[str, Rater] = {}
    for one in listeners:
        twin = kept.setdefault(one.id.lower(), one)
        if twin is not one:
            what = (
                "the same results as"
                if one.session == twin.session
                else f"listener {one.id!r} took the test before, in"
            )
            rejected.append(Rejected(one.file, f"{what} {twin.file}"))
    return list(kept.values()), rejected


def broken_rules(listener: Rater, rules: Rules) -> list[Broken]:
    """All the rules that this listener broke."""
    mos = [trial for trial in listener.trials if trial.part == MOS]
    pairs = [trial for trial in listener.trials if trial.part == AB]
    found = []

    def check(rule: str, values: Sequence[float], below: bool = False) -> None:
        limit = getattr(rules, rule)
        if limit is None or not values:
            return
        value = mean(values)
        if value < limit if below else value > limit:
            found.append(Broken(rule, round(value, 3), limit))

    def scores(system: str) -> list[float]:
        return [score for trial in mos if trial.systems == (system,) for score in trial.scores.values()]

    check("anchor", scores(ANCHOR))
    check("reference", scores(RECORDINGS), below=True)
    first = {tuple(sorted(trial.clips)): trial for trial in listener.trials if not trial.repeated}
    repeats = [(first[tuple(sorted(trial.clips))], trial) for trial in listener.trials if trial.repeated]
    check("repeats", [abs(a.scores[s] - b.scores[s]) for a, b in repeats if a.part == MOS for s in a.scores])
    shares = [_largest_share([trial.scores[scale] for trial in mos]) for scale in SCALES] if mos else []
    if len(pairs) >= _MIN_PAIRS:
        shares.append(_largest_share([trial.answer for trial in pairs]))
    check("same", [max(shares)] if shares else [])
    check("fast", [median(trial.decision_sec for trial in listener.trials)], below=True)
    check("catch", [float(trial.winner == ANCHOR) for trial in pairs if ANCHOR in trial.systems])
    twice = [{a.winner, b.winner} for a, b in repeats if a.part == AB]
    check("flips", [float(len(winners) == 2 and None not in winners) for winners in twice])
    return found


def _largest_share(answers: Sequence[int | str]) -> float:
    return Counter(answers).most_common(1)[0][1] / len(answers)


def _read_rater(path: Path, key: Key) -> Rater:
    raw = _read_checked(path)
    if raw.get("kind") != "listening-test-results" or raw.get("format") != 1:
        raise _Bad("not a results file of a listening test that this version reads")
    if raw.get("test") != key.test:
        raise _Bad(f"of another test ({raw.get('test')!r}; the key is of {key.test!r})")
    for name in ("listener", "session"):
        if not isinstance(raw.get(name), str) or not re.fullmatch(r"[A-Za-z0-9_\-]{1,40}", raw[name]):
            raise _Bad(f"{name} is missing or not made of letters, digits, _ and -")
    if raw.get("device") not in _DEVICES or not isinstance(raw.get("trials"), list):
        raise _Bad("device or trials are missing")
    if not isinstance(raw.get("finished"), str) or not raw["finished"]:
        raise _Bad("the test was not finished")
    seen: set[tuple[str, ...]] = set()
    trials = []
    for number, row in enumerate(raw["trials"], start=1):
        try:
            trials.append(_read_trial(row, key, seen))
        except _Bad as bad:
            raise _Bad(f"trial {number}: {bad}") from bad
    _check_complete(trials, key)
    return Rater(raw["listener"], raw["session"], raw["device"], raw["finished"], str(path), tuple(trials))


def _read_checked(path: Path) -> dict[str, Any]:
    """The object in the file, if it is as the page wrote it. The checksum finds damage and edits, not forgery."""
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise _Bad("far larger than a results file")
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise _Bad(f"cannot be read: {str(error) or type(error).__name__}") from error
    if not isinstance(raw, dict):
        raise _Bad("not a results file of a listening test")
    checksum = raw.pop("crc32", None)
    # What JSON.stringify writes: no spaces, keys in their order, only integers and plain strings as values.
    text = json.dumps(raw, ensure_ascii=False, separators=(",", ":"))
    if checksum != zlib.crc32(text.encode("utf-8", errors="surrogatepass")):
        raise _Bad("changed or damaged after the page wrote it (the checksum does not fit)")
    return raw


def _read_trial(row: Any, key: Key, seen: set[tuple[str, ...]]) -> Trial:
    if not isinstance(row, dict) or row.get("part") not in (MOS, AB):
        raise _Bad("not a trial")
    part, clips = row["part"], row.get("clips")
    if not isinstance(clips, list) or len(clips) != (1 if part == MOS else 2):
        raise _Bad("not as many clips as expected")
    if any(not isinstance(clip, str) or clip not in key.clips for clip in clips):
        raise _Bad("a clip that the key does not know")
    heard_ms, total_ms = row.get("heard_ms"), row.get("total_ms")
    if type(heard_ms) is not int or type(total_ms) is not int or total_ms < heard_ms:
        raise _Bad("times are missing or run backwards")
    # A fifth is left for clocks that differ.
    if heard_ms < 0.8 * sum(key.clips[clip]["duration_ms"] for clip in clips):
        raise _Bad("heard in less time than the sound lasts")
    scores, answer = row.get("scores", {}), row.get("answer", "")
    if part == MOS and (
        not isinstance(scores, dict)
        or scores.keys() != SCALES.keys()
        or any(type(score) is not int or not 1 <= score <= 5 for score in scores.values())
    ):
        raise _Bad(f"expected a score of 1 to 5 for each of {', '.join(SCALES)}")
    if part == AB and (not isinstance(answer, str) or answer not in _ANSWERS):
        raise _Bad(f"expected an answer of {', '.join(_ANSWERS)}")
    name = (part, *sorted(clips))
    repeated = name in seen
    seen.add(name)
    return Trial(
        part=part,
        sentence=key.clips[clips[0]]["sentence"],
        systems=tuple(key.clips[clip]["system"] for clip in clips),
        clips=tuple(clips),
        scores=scores if part == MOS else {},
        answer=answer if part == AB else "",
        decision_sec=(total_ms - heard_ms) / 1000,
        repeated=repeated,
    )


def _check_complete(trials: Sequence[Trial], key: Key) -> None:
    """The trials are those that the page would have given: as many of each pool, and as many repeated."""
    num_known = 0
    for part in key.parts:
        given = [trial for trial in trials if trial.part == part["kind"]]
        shown = {tuple(sorted(trial.clips)) for trial in given}
        repeated = Counter(tuple(sorted(trial.clips)) for trial in given if trial.repeated)
        pools = [{tuple(sorted(item["clips"])) for item in pool["items"]} for pool in part["pools"]]
        counts = [len(shown & items) for items in pools]
        expected = [pool["take"] for pool in part["pools"]]
        if (
            counts != expected
            or len(shown) != sum(expected)
            or repeated.total() != part["num_repeats"]
            or len(repeated) != part["num_repeats"]
            or not repeated.keys() <= pools[0]
        ):
            raise _Bad(f"the trials of the part {part['kind']} are not those that the page gives")
        num_known += len(given)
    if num_known != len(trials):
        raise _Bad("trials of a part that this test does not have")
