"""Whether speech repeats, skips or cuts off words of its text: judged by pocketsphinx, which knows nothing of our models.

A transcript cannot tell: free recognition errs on every fifth word of a human. So the recogniser is told the text and
the ways to fail: a grammar whose straight path says the words in order, and whose detours go back (repeat), forward
(skip) or end early (truncation). A detour costs so much that only sound which the straight path cannot explain pays
for it; a word that is said badly is still cheaper to say than to leave out. See docs/measured/fault-judge.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from voicegraft.core.errors import VoicegraftError
from voicegraft.evaluation.judges.base import JUDGE_RATE, JUDGE_RMS, judge_samples
from voicegraft.evaluation.judges.word_alignment import (
    CMU_PHONES,
    Arc,
    GrammarDecoder,
    Pronunciations,
    TimedWord,
    judge_pcm,
)
from voicegraft.text.units import words_of

SKIP, REPEAT, TRUNCATION, NOISE = "skip", "repeat", "truncation", "noise"


@dataclass(frozen=True)
class FaultConfig:
    """Where the judge draws its lines; docs/measured/fault-judge.md has the measurements."""

    # Nats of likelihood that a detour must gain. At 50, good speech was called faulty twice as often (8 and 4 of
    # 1346); at 80, one more word in ten that was left out went unnoticed.
    detour_nats: float = 60.0
    max_jump: int = 25  # words that one detour leaves out or says again; keeps the cost of a long text in bounds
    max_between: int = 3  # words said between two jumps that count as one
    # Each phone of babble after the last word: more than a word that fits loses, far less than one that does not.
    phone_nats: float = 3.0
    # Of loud sound after the last word; good speech mostly stays below 0.4, 2 utterances of 1644 passed 0.5.
    noise_sec: float = 0.5
    noise_db: float = 25.0  # sound is loud when it is at most this far below the level of speech


class Fault(NamedTuple):
    """One thing that went wrong, and where."""

    kind: str  # SKIP, REPEAT, TRUNCATION or NOISE
    words: tuple[str, ...]  # left out, said again, or missing at the end; () for noise and words not in the text
    at_sec: float  # from the start of the samples


class _Jump(NamedTuple):
    start: int  # number of the word said before which it leaves the order
    until: int  # number of the word said with which the order goes on
    origin: int  # words of the text done at the start
    target: int  # word of the text with which it goes on


class FaultJudge:
    """Finds the faults of an utterance. A single function word, left out or doubled, mostly passes."""

    def __init__(self, config: FaultConfig = FaultConfig()) -> None:
        self.config = config
        # 184 nats, more than three detours. 345 nats cost three times as much; on 14 good clips neither found a fault.
        self._decoder = GrammarDecoder(beam=1e-80)
        self._babble = [self._decoder.add(f"+{phone}", [phone]) for phone in sorted(CMU_PHONES)]

    def faults(
        self, samples: np.ndarray, sample_rate: int, text: str, pronunciations: Pronunciations | None = None
    ) -> tuple[str, ...]:
        """Samples ``[T]`` of one utterance -> the kinds of fault in it, each once, () for none; see `find`."""
        return tuple(dict.fromkeys(fault.kind for fault in self.find(samples, sample_rate, text, pronunciations)))

    def find(
        self, samples: np.ndarray, sample_rate: int, text: str, pronunciations: Pronunciations | None = None
    ) -> list[Fault]:
        """Samples ``[T]`` of one utterance -> its faults in their order.

        Args:
            text: in spoken form; its words are those of `data.pronunciation.words_of`.
            pronunciations: phones of lower-case words, instead of the dictionary's.

        Raises:
            VoicegraftError: the text has no word, or a pronunciation has an unknown phone.
        """
        words = [word.key for word in words_of(text)]
        if not words:
            raise VoicegraftError(f"the text {text[:60]!r} has no word; expected the spoken form of what was said")
        names = [self._decoder.name(word, pronunciations) for word in words]
        pcm = judge_pcm(samples, sample_rate)
        path = self._path(pcm, names, self._babble)
        said = [word for word in path if word.word not in self._babble]
        found = self._detours(words, names, said)
        if found and len(said) < len(path):
            # Words that are said badly are explained well by leaving them out and calling their sound babble. So a
            # detour counts only if it pays without babble.
            said = self._path(pcm, names, ())
            found = self._detours(words, names, said)
        if said and self._loud_sec(samples, sample_rate, said[-1].end_sec) >= self.config.noise_sec:
            found.append(Fault(NOISE, (), said[-1].end_sec))
        return found

    def _path(self, pcm: bytes, names: Sequence[str], babble: Sequence[str]) -> list[TimedWord]:
        """What was said, () where there is no sound or less of it than one word takes."""
        return (self._decoder.decode(pcm, self._arcs(names, babble), len(names) + 2) if pcm else None) or []

    def _arcs(self, names: Sequence[str], phones: Sequence[str]) -> list[Arc]:
        """State i: i words are said; after the last one there may be babble of some phones; then comes the end."""
        num_words = len(names)
        babble, end = num_words + 1, num_words + 2
        detour = math.exp(-self.config.detour_nats)
        arcs: list[Arc] = []
        for i in range(num_words + 1):
            near = range(max(0, i - self.config.max_jump), min(num_words, i + self.config.max_jump + 1))
            arcs += [(i, j + 1, 1.0 if j == i else detour, names[j]) for j in near]
            if i < num_words:
                arcs.append((i, end, detour))
        arcs.append((num_words, babble, 1.0))
        arcs += [(babble, babble, math.exp(-self.config.phone_nats), phone) for phone in phones]
        arcs.append((babble, end, 1.0))
        return arcs

    def _route(self, names: Sequence[str], said: Sequence[TimedWord]) -> list[int]:
        """Which of the words each word said is: the route with the fewest jumps. The decoder tells no states, only words."""
        best: dict[int, tuple[int, list[int]]] = {0: (0, [])}  # words done -> (jumps, route) of the best way there
        for heard in said:
            reached: dict[int, tuple[int, list[int]]] = {}
            for done, (num_jumps, route) in best.items():
                for i, name in enumerate(names):
                    total = num_jumps + (i != done)
                    if name == heard.word and (i + 1 not in reached or total < reached[i + 1][0]):
                        reached[i + 1] = (total, [*route, i])
            best = reached
        return min(best.items(), key=lambda way: way[1][0] + (way[0] < len(names)))[1][1]

    def _detours(self, words: Sequence[str], names: Sequence[str], said: Sequence[TimedWord]) -> list[Fault]:
        """What the jumps of the route amount to.

        A word that is said badly often sounds more like another word of the text: the route jumps there and back.
        Jumps that are close together therefore count as one, with some words said in the place of others.
        """
        jumps: list[_Jump] = []
        done = 0
        for number, i in enumerate([*self._route(names, said), len(words)]):
            if i != done:
                if jumps and number - jumps[-1].until <= self.config.max_between:
                    jumps[-1] = jumps[-1]._replace(until=number, target=i)
                else:
                    jumps.append(_Jump(number, number, done, i))
            done = i + 1
        found = []
        for start, until, origin, target in jumps:
            instead, missing = until - start, target - origin
            at_sec = said[start].start_sec if start < len(said) else said[-1].end_sec if said else 0.0
            if missing <= 0:
                found.append(Fault(REPEAT, tuple(words[target:origin]), at_sec))
            elif not instead or missing >= instead + 2:
                kind = TRUNCATION if target == len(words) else SKIP
                found.append(Fault(kind, tuple(words[origin:target]), at_sec))
        return found

    def _loud_sec(self, samples: np.ndarray, sample_rate: int, from_sec: float) -> float:
        """Seconds of loud sound after a time."""
        rest = judge_samples(samples, sample_rate)[max(0, round(from_sec * JUDGE_RATE)) :]
        frame = JUDGE_RATE // 100
        rows = rest[: len(rest) // frame * frame].reshape(-1, frame)
        level = np.sqrt((rows**2).mean(axis=1))
        return float((level > JUDGE_RMS * 10 ** (-self.config.noise_db / 20)).sum() * frame / JUDGE_RATE)
