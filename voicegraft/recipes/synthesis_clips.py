"""Clips of synthetic speech, made and checked block by block, in any process and any order with the same result.

Whatever a clip is made of follows from its number and the seed. ``clips/block-00000.jsonl`` says what became of every clip of a
block; it is written last, and a block that has it is done.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from voicegraft.audio.io import resampled, write_audio
from voicegraft.audio.level import speech_span
from voicegraft.core.files import write_text
from voicegraft.data.checks import REASONS as CHECKS
from voicegraft.data.checks import Limits, clean_text, examine
from voicegraft.data.sources.record import Record
from voicegraft.evaluation.judges.base import Recognizer
from voicegraft.evaluation.metrics.rates import normalize_transcript, word_edits
from voicegraft.teachers.base import Said, Teacher, Unsayable
from voicegraft.text.frontend import Frontend, open_frontend, spoken_text

SAMPLE_RATE = 24_000  # Hz
BLOCK = 8  # clips that are kept together: what a kill may cost each process
_KEEP_SEC = 0.1  # of the silence at both ends, as `voicegraft prepare` keeps

Row = dict[str, Any]
REASONS = CHECKS | {
    "reserved": "an evaluation says this text",
    "no_letters": "the front end leaves nothing to say",
    "unsayable": "the teacher cannot say it",
    "misread": "the recogniser hears too many other words (share of the words)",
}


@dataclass(frozen=True)
class Draw:
    """What a clip is made of."""

    number: int
    text: str  # as written
    voice: str
    speed: float
    seed: int

    @property
    def id(self) -> str:
        voice = re.sub(r"[^A-Za-z0-9_-]", "-", self.voice)  # it names a file
        return f"{voice}-{self.number:06d}"


@dataclass(frozen=True)
class ClipMaker:
    """Makes the clips of a block; goes to other processes, where it opens teacher and recogniser once."""

    out: Path
    texts: tuple[str, ...]  # all of them, in the order in which they are said
    num_clips: int  # texts, times how often each is said
    voices: tuple[str, ...]
    mixtures: Mapping[str, Mapping[str, float]]  # those of the voices that are mixed
    speeds: tuple[float, float]  # slowest, fastest
    seed: int
    limits: Limits
    max_word_errors: float
    open_teacher: Callable[[], Teacher]
    check: str  # none, or the name of a recogniser

    def __call__(self, block: str) -> None:
        first = BLOCK * int(block.rpartition("-")[2])
        rows = [self.make(self.draw(number)) for number in range(first, min(first + BLOCK, self.num_clips))]
        write_text(self.rows_of(block), "\n".join(json.dumps(row, ensure_ascii=False) for row in rows))

    @property
    def blocks(self) -> list[str]:
        """Their names, in order."""
        return [f"block-{number:05d}" for number in range(-(-self.num_clips // BLOCK))]

    def rows_of(self, block: str) -> Path:
        return self.out / "clips" / f"{block}.jsonl"

    def draw(self, number: int) -> Draw:
        text = self.texts[number % len(self.texts)]
        draw = random.Random(f"{self.seed}/{number}/{text}")
        voice, speed = draw.choice(self.voices), round(draw.uniform(*self.speeds), 2)
        return Draw(number, text, voice, speed if self._teacher.has_speed else 1.0, draw.getrandbits(31))

    def make(self, draw: Draw) -> Row:
        """One line of JSON: what prepare and training read of a clip; with ``reason`` it is not kept."""
        spoken = spoken_text(self._frontend, draw.text)
        row: Row = {"id": draw.id, "text": draw.text, "normalized_text": spoken, "speaker": draw.voice}
        row |= {"synthetic": True, "teacher": self._teacher.name, "licence": self._teacher.licence}
        row |= {"speed": draw.speed, "seed": draw.seed}
        if draw.voice in self.mixtures:
            row["mixture"] = dict(self.mixtures[draw.voice])
        if not any(map(str.isalpha, spoken)):
            return row | {"reason": "no_letters"}
        try:
            said = self.say(spoken, draw)
        except Unsayable as why:
            return row | {"reason": "unsayable", "value": str(why)}
        if not len(said.samples):
            return row | {"reason": "silent"}
        name = f"audio/{draw.id}.flac"
        write_audio(self.out / name, said.samples, SAMPLE_RATE)
        if fault := self._fault(spoken, said.samples, self.out / name):
            (self.out / name).unlink()
            return row | fault
        seconds = round(len(said.samples) / SAMPLE_RATE, 3)
        times = {"units": said.units, "unit_ends_sec": said.unit_ends_sec}
        times |= {"phones": said.phones, "phone_ends_sec": said.phone_ends_sec}
        known = {name: value for name, value in times.items() if value}
        return {"audio": name, **row, "duration": seconds, "sample_rate": SAMPLE_RATE, **known}

    def say(self, spoken: str, draw: Draw) -> Said:
        """At this rate of ours, without the silence around it; times are those of what is left."""
        said = self._teacher.say(spoken, draw.voice, draw.speed, draw.seed)
        samples = resampled(said.samples, self._teacher.sample_rate, SAMPLE_RATE)
        first, last = speech_span(samples, SAMPLE_RATE, _KEEP_SEC)

        def moved(ends_sec: Sequence[float]) -> tuple[float, ...]:
            kept = np.clip(np.asarray(ends_sec) - first / SAMPLE_RATE, 0, (last - first) / SAMPLE_RATE)
            return tuple(np.round(kept, 3).tolist())

        return Said(samples[first:last], said.units, moved(said.unit_ends_sec), said.phones, moved(said.phone_ends_sec))

    def _fault(self, spoken: str, samples: np.ndarray, path: Path) -> Row:
        """Why a clip is not kept; nothing where it is."""
        facts = examine(Record(path.stem, path, spoken), path, False, SAMPLE_RATE, self.limits).facts
        if "reason" in facts:
            return {key: facts[key] for key in ("reason", "value", "limit")}
        if self._recognizer is None:
            return {}
        recognizer, normalize = self._recognizer
        heard = recognizer.transcribe(samples, SAMPLE_RATE)
        rate = word_edits(spoken, heard, normalize or normalize_transcript).rate
        if rate <= self.max_word_errors:
            return {}
        return {"reason": "misread", "value": round(rate, 3), "limit": self.max_word_errors, "heard": heard}

    @cached_property
    def _teacher(self) -> Teacher:
        return self.open_teacher()

    @cached_property
    def _recognizer(self) -> tuple[Recognizer, Callable[[str], str] | None] | None:
        """Who hears the clips, and the form in which texts are compared."""
        if self.check == "none":
            return None
        from voicegraft.evaluation.judges.load import load_recognizer  # torch, which other workers start without

        return load_recognizer(self.check)

    @cached_property
    def _frontend(self) -> Frontend:
        return open_frontend("english")


def distinct(texts: Iterable[str], seed: int) -> tuple[str, ...]:
    """Each text once, in the random order in which they are said."""
    found = list(dict.fromkeys(text for line in texts if (text := clean_text(line))))
    random.Random(seed).shuffle(found)
    return tuple(found)
