"""Closed-set ASR accuracy of spoken answers: the recogniser chooses among the answers that are possible."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from voicegraft.audio.io import read_audio
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.corpora import words_key
from voicegraft.data.questions import ANSWERS, Question
from voicegraft.evaluation.judges.base import JUDGE_RATE, judge_samples
from voicegraft.evaluation.judges.packages import PocketSphinxRecognizer
from voicegraft.evaluation.metrics.rates import bootstrap_mean, normalize_transcript
from voicegraft.teachers.flite import flite

Sound = tuple[np.ndarray, int]  # samples [T], rate in Hz
_CEILING_RATE = 16_000  # Hz, flite's own


class ChoiceRecognizer(Protocol):
    def choose(self, samples: np.ndarray, sample_rate: int, options: Sequence[str]) -> str:
        """Samples [T] -> the one of the options that was heard, "" for none."""


class PocketSphinxChooser(PocketSphinxRecognizer):
    """The same recogniser, told what may be said: one of some phrases, by a grammar."""

    def __init__(self) -> None:
        super().__init__()
        self._grammars: dict[tuple[str, ...], dict[str, str]] = {}  # options -> their normal form -> option

    def choose(self, samples: np.ndarray, sample_rate: int, options: Sequence[str]) -> str:
        """Words that the recogniser's lexicon lacks cannot be heard; an option that holds one is left out."""
        key = tuple(options)
        if key not in self._grammars:
            normal = {normalize_transcript(option): option for option in options}
            known = {n: o for n, o in normal.items() if all(self._decoder.lookup_word(w) for w in n.split())}
            if not known:
                raise VoicegraftError(f"the recogniser knows the words of none of these options: {', '.join(options)}")
            self._decoder.add_jsgf_string(
                f"answers{len(self._grammars)}",
                f"#JSGF V1.0; grammar answers; public <answer> = {' | '.join(known)};",
            )
            self._grammars[key] = known
        self._decoder.activate_search(f"answers{list(self._grammars).index(key)}")
        # A word alone, cut close, is hard to recognise: a quarter of a second of silence on both sides.
        padded = np.pad(judge_samples(samples, sample_rate), JUDGE_RATE // 4)
        return self._grammars[key].get(self._recognize(padded), "")


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
