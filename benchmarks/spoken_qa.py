"""Closed-set ASR accuracy of spoken answers: the recogniser chooses among the answers that are possible."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voicegraft.audio.io import read_audio
from voicegraft.data.corpora import words_key
from voicegraft.data.questions import ANSWERS, Question
from voicegraft.evaluation.judges.base import ChoiceRecognizer
from voicegraft.evaluation.metrics.rates import bootstrap_mean
from voicegraft.teachers.flite import flite

Sound = tuple[np.ndarray, int]  # samples [T], rate in Hz
_CEILING_RATE = 16_000  # Hz, flite's own


@dataclass(frozen=True)
class SpokenAnswer:
    question: str
    kind: str
    answer: str  # the right one
    written: str  # what the model wrote
    recognised: str  # of the fixed set of answers of this type, "" for nothing

    @property
    def written_right(self) -> bool:
        return words_key(self.written) == words_key(self.answer)

    @property
    def recognised_right(self) -> bool:
        return words_key(self.recognised) == words_key(self.answer)


def listen(
    asked: Sequence[Question],
    written: Sequence[str],
    say: Callable[[str], Sound],
    recognizer: ChoiceRecognizer,
) -> list[SpokenAnswer]:
    """Has every written answer said, and recognises which of the possible answers it is.

    Args:
        say: a text -> its sound; no samples for what cannot be said.
    """
    answers = []
    for question, text in zip(asked, written, strict=True):
        samples, rate = say(text)
        recognised = recognizer.choose(samples, rate, ANSWERS[question.answer_type]) if len(samples) else ""
        answers.append(SpokenAnswer(question.text, question.kind, question.answer, text, recognised))
    return answers


def ceiling(asked: Sequence[Question], recognizer: ChoiceRecognizer, voice: str = "rms") -> float:
    """Share of the right answers that are recognised rightly from a clean synthetic voice (flite).

    Raises VoicegraftError where flite is not installed.
    """
    right: dict[tuple[str, str], bool] = {}
    for question in asked:
        key = (question.answer, question.answer_type)
        if key not in right:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "flite.wav"
                flite(question.answer, voice, [], str(path))
                sound = read_audio(path, _CEILING_RATE)
            recognised = recognizer.choose(sound.samples, _CEILING_RATE, ANSWERS[question.answer_type])
            right[key] = words_key(recognised) == words_key(question.answer)
    return sum(right[q.answer, q.answer_type] for q in asked) / len(asked)


def summary(answers: Sequence[SpokenAnswer]) -> Mapping[str, Any]:
    """Shares that are right: written, recognised, and recognised as the model wrote it, over all and per kind of question."""
    spoken = bootstrap_mean([float(a.recognised_right) for a in answers])
    kinds = {}
    for kind in dict.fromkeys(a.kind for a in answers):
        own = [a for a in answers if a.kind == kind]
        kinds[kind] = {
            "written": sum(a.written_right for a in own) / len(own),
            "spoken": sum(a.recognised_right for a in own) / len(own),
            "count": len(own),
        }
    return {
        "written": sum(a.written_right for a in answers) / len(answers),
        "spoken": spoken.value,
        "spoken_low": spoken.low,
        "spoken_high": spoken.high,
        "heard_as_written": sum(words_key(a.recognised) == words_key(a.written) for a in answers) / len(answers),
        "count": len(answers),
        "kinds": kinds,
    }
