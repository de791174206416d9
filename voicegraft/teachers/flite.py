"""flite (Black & Lenzo 2001): pronunciations of words, and synthetic speech with exact phone times."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from voicegraft.audio.io import read_audio
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.lexicon import Lexicon
from voicegraft.teachers.base import Said
from voicegraft.text.units import PHONES, START, words_of


class FliteTeacher:
    """The voices that Debian's flite has; units and their times are exact."""

    name = "flite"
    licence = "flite's BSD-like licence (Carnegie Mellon University); its voices are free to use"
    voices = ("rms", "slt", "awb", "kal16")
    sample_rate = 16_000
    has_speed = True

    def say(self, text: str, voice: str, speed: float, seed: int) -> Said:
        samples, segments = timed_speech(text, voice, 1 / speed, self.sample_rate)
        units = place_words(text, flite_lexicon(word.key for word in words_of(text)), segments)
        return Said(samples, *(units or ((), ())))


def timed_speech(text: str, voice: str, stretch: float, sample_rate: int) -> tuple[np.ndarray, list[tuple[str, float]]]:
    """Samples ``[T]`` at ``sample_rate`` Hz, and segments ``(phone or pau, end_sec)``.

    Args:
        stretch: of all durations; above 1 is slower.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flite.wav"
        printed = flite(text, voice, ["-psdur", "--setf", f"duration_stretch={stretch:.3f}"], str(path))
        segments = [(p, float(t)) for p, t in (s.split(":") for s in printed.split())]
        return read_audio(path, sample_rate).samples, segments


def flite_lexicon(words: Iterable[str], batch: int = 48) -> Lexicon:
    """Asks flite for each word's phones, many words a call (they come back separated by pauses)."""
    entries: dict[str, tuple[str, ...]] = {}

    def ask(some: Sequence[str]) -> None:
        spoken = flite(". ".join(some) + ".", "kal", ["-ps"])
        groups = [tuple(g.split()) for g in re.split(r"\bpau\b", spoken) if g.strip()]
        if len(groups) == len(some):
            entries.update(zip(some, groups, strict=True))
        elif len(some) > 1:  # an abbreviation swallowed its full stop: halve until it is alone
            ask(some[: len(some) // 2])
            ask(some[len(some) // 2 :])

    todo = sorted(set(words))
    for start in range(0, len(todo), batch):
        ask(todo[start : start + batch])
    return Lexicon({w: p for w, p in entries.items() if p and set(p) <= set(PHONES)})


def flite(text: str, voice: str, options: Sequence[str], out: str = "none") -> str:
    """Runs flite (Black & Lenzo 2001) on one text and returns what it prints."""
    try:
        done = subprocess.run(
            ["flite", "-voice", voice, *options, "-t", text, "-o", out], capture_output=True, text=True, check=True
        )
    except FileNotFoundError as error:
        raise VoicegraftError("flite is not installed (Debian and Ubuntu: apt-get install flite)") from error
    except subprocess.CalledProcessError as error:
        raise VoicegraftError(f"flite failed on {text[:60]!r}: {error.stderr.strip()[:200]}") from error
    return done.stdout


def place_words(
    text: str, lexicon: Lexicon, segments: Sequence[tuple[str, float]]
) -> tuple[tuple[str, ...], tuple[float, ...]] | None:
    """Timed flite segments ``(phone or pau, end_sec)`` -> (units, end of each unit in seconds).

    Flite prints no word boundaries, and changes words in context ("a" is ey alone and ax in a phrase), so its phones are
    matched to the lexicon's by edit distance. None when they differ by more than a third, which means other words.
    """
    words = words_of(text)
    expected: list[tuple[str, int]] = []
    for i, word in enumerate(words):
        if word.key not in lexicon:
            return None
        expected += [(p, i) for p in lexicon.entries[word.key]]
    phones = [(p, end) for p, end in segments if p != "pau"]
    owners = _match([p for p, _ in phones], expected)
    if owners is None:
        return None
    pause_end = {}  # end of the pause that follows phone number n (-1: before the first)
    n = -1
    for phone, end in segments:
        if phone == "pau":
            pause_end[n] = end
        else:
            n += 1
    units, ends = [START], [pause_end.get(-1, 0.0)]
    for n, (phone, end) in enumerate(phones):
        units.append(phone)
        ends.append(end)
        if n + 1 == len(phones) or owners[n + 1] != owners[n]:
            units.append(words[owners[n]].boundary)
            ends.append(pause_end.get(n, end))
    if len(set(owners)) != len(words):
        return None  # a word without a phone of its own
    return tuple(units), tuple(ends)


def _match(actual: Sequence[str], expected: Sequence[tuple[str, int]]) -> list[int] | None:
    """Owner word of each actual phone along the cheapest edit path (non-decreasing), or None when too far apart."""
    rows, columns = len(actual) + 1, len(expected) + 1
    cost = [[0] * columns for _ in range(rows)]
    for j in range(columns):
        cost[0][j] = j
    for i in range(1, rows):
        cost[i][0] = i
        for j in range(1, columns):
            same = actual[i - 1] == expected[j - 1][0]
            cost[i][j] = min(cost[i - 1][j - 1] + (not same), cost[i - 1][j] + 1, cost[i][j - 1] + 1)
    if not expected or cost[-1][-1] > len(expected) / 3:
        return None
    owners = [0] * len(actual)
    i, j = len(actual), len(expected)
    while i > 0:
        same = j > 0 and actual[i - 1] == expected[j - 1][0]
        if j > 0 and cost[i][j] == cost[i - 1][j - 1] + (not same):
            owners[i - 1] = expected[j - 1][1]
            i, j = i - 1, j - 1
        elif cost[i][j] == cost[i - 1][j] + 1:
            owners[i - 1] = expected[max(j - 1, 0)][1]
            i -= 1
        else:
            j -= 1
    return owners
