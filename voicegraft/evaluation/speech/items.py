"""Runs items (a text and how to get it spoken) through the judges, one row per item, resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voicegraft.audio.io import read_audio
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.ledger import Ledger, Row
from voicegraft.evaluation.judges.base import Judges, Recognizer, SpeakerJudge
from voicegraft.evaluation.metrics import rates as metrics
from voicegraft.evaluation.metrics.prosody import measure_pauses, measure_pitch
from voicegraft.text.english.normalize import Normalizer

if TYPE_CHECKING:
    from voicegraft.inference.speech import Speech

_MOST_WORDS = 40  # that faults are listened for in: the judge's time grows with the cube of their number
ROW_FORMAT = 3  # changes with the fields of a row: rows of two formats are not mixed
STAGES = ("recordings", "semantic re-synthesis", "codec re-synthesis", "speech")


@dataclass(frozen=True)
class Clip:
    """Audio to judge and what is known about its making."""

    samples: np.ndarray  # float32 [T]
    sample_rate: int  # Hz
    wall_sec: float | None = None  # time it took to make; None for a recording
    first_audio_sec: float | None = None  # time to its first chunk, where it was streamed
    status: str = "ok"
    spoken_text: str | None = None
    faults: tuple[str, ...] = ()  # that its maker found and could not mend: repeat, skip, truncation, runaway, noise
    num_retries: int = 0  # attempts that were thrown away; a retry is no failure

    @staticmethod
    def of(spoken: Speech) -> Clip:
        """What a speaker has said."""
        return Clip(
            spoken.samples,
            spoken.sample_rate,
            spoken.wall_sec,
            spoken.first_audio_sec,
            spoken.status,
            spoken.spoken_text,
            tuple(fault.kind for sentence in spoken.sentences for fault in sentence.unmended),
            sum(sentence.num_retries for sentence in spoken.sentences),
        )


@dataclass(frozen=True)
class Item:
    """One thing to judge. `produce` runs only if the item has no row yet."""

    stage: str  # one of STAGES
    voice: str
    id: str
    text: str
    produce: Callable[[], Clip]
    prompt: Path | None = None  # recording whose voice was to be cloned

    @property
    def key(self) -> tuple[str, str, str]:
        return self.stage, self.voice, self.id


def open_rows(path: Path, identity: Mapping[str, Any]) -> Ledger:
    """The ledger of an evaluation's rows by stage, voice and id; `identity` is what they depend on besides."""
    return Ledger(path, {**identity, "row format": ROW_FORMAT}, ("stage", "voice", "id"))


def mean_voices(clips: Mapping[str, Iterable[Clip]], judge: SpeakerJudge) -> dict[str, np.ndarray]:
    """Mean embedding [D] of each voice over its clips; voices without a voiced clip are left out."""
    means = {}
    for voice, voice_clips in clips.items():
        embeddings = [judge.embed(clip.samples, clip.sample_rate) for clip in voice_clips]
        voiced = [embedding for embedding in embeddings if embedding is not None]
        if voiced:
            means[voice] = np.mean(voiced, axis=0)
    return means


def judge_clip(item: Item, clip: Clip, judges: Judges, voices: Mapping[str, np.ndarray]) -> Row:
    """All measures of one clip as a JSON-ready row.

    The words are compared with the item's text; where that holds digits, with the spoken form instead, since
    pocketsphinx writes "twenty" for "20". A form of texts of its own (`judges.normalize`) is of the text as it stands.
    A clip without sound has every word wrong and no opinion score.
    """
    in_digits = any(char.isdigit() for char in item.text)
    as_spoken = clip.spoken_text if in_digits and clip.spoken_text else item.text
    if judges.normalize:
        words = _words(judges.recognizer, clip, item.text, judges.normalize)
    else:
        words = _words(judges.recognizer, clip, as_spoken, metrics.normalize_transcript)
    beside = judges.pocketsphinx
    embedding = judges.speaker.embed(clip.samples, clip.sample_rate) if voices or item.prompt else None
    duration_sec = len(clip.samples) / clip.sample_rate
    too_long = duration_sec > metrics.duration_budget_sec(as_spoken)
    faults = {*clip.faults, *(["runaway"] if too_long else [])}
    in_words = clip.spoken_text or Normalizer().normalize(item.text)
    listened = judges.faults is not None and len(in_words.split()) <= _MOST_WORDS
    if judges.faults is not None and listened:
        faults |= {*judges.faults.faults(clip.samples, clip.sample_rate, in_words)}
    return {
        "stage": item.stage,
        "voice": item.voice,
        "id": item.id,
        "text": item.text,
        **words,
        "pocketsphinx": _words(beside, clip, as_spoken, metrics.normalize_transcript) if beside else None,
        "mos": judges.mos.score(clip.samples, clip.sample_rate),
        "similarity": _similarity(embedding, voices),
        "prompt_similarity": _prompt_similarity(embedding, item.prompt, clip.sample_rate, judges.speaker),
        "duration_sec": duration_sec,
        "spoken_sec": metrics.spoken_sec(clip.samples, clip.sample_rate),
        "pitch": asdict(measure_pitch(clip.samples, clip.sample_rate)),
        "pauses_sec": measure_pauses(clip.samples, clip.sample_rate),
        "wall_sec": clip.wall_sec,
        "first_audio_sec": clip.first_audio_sec,
        "status": clip.status,
        "faults": sorted(faults),
        "faults_judged": listened,
        "num_retries": clip.num_retries,
        "ran_away": clip.status != "ok" or too_long,
    }


def _words(recognizer: Recognizer, clip: Clip, text: str, normalize: Callable[[str], str]) -> Row:
    """What a recogniser hears of a text, and the edits between them."""
    heard = recognizer.transcribe(clip.samples, clip.sample_rate)
    words = metrics.word_edits(text, heard, normalize)
    chars = metrics.char_edits(text, heard, normalize)
    return {
        "reference": normalize(text),
        "heard": normalize(heard),
        "word_errors": words.errors,
        "num_words": words.length,
        "char_errors": chars.errors,
        "num_chars": chars.length,
    }


def _similarity(embedding: np.ndarray | None, voices: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {} if embedding is None else {name: metrics.cosine(embedding, mean) for name, mean in voices.items()}


def _prompt_similarity(
    embedding: np.ndarray | None, prompt: Path | None, rate: int, judge: SpeakerJudge
) -> float | None:
    if embedding is None or prompt is None:
        return None
    wanted = judge.embed(read_audio(prompt, rate).samples, rate)
    return None if wanted is None else metrics.cosine(embedding, wanted)


def run_items(
    items: Sequence[Item],
    judges: Judges,
    voices: Mapping[str, np.ndarray],
    ledger: Ledger,
    keep: Callable[[Item, Clip], None] | None = None,
    progress: bool = True,
) -> list[Row]:
    """Rows of all items in their order; items that the ledger already holds are not made again.

    voices: mean embedding [D] per voice to compare with. keep: called with every clip made, say to save it.
    An item whose `produce` raises VoicegraftError becomes a silent clip with the message as its status.
    """
    from tqdm import tqdm

    todo = [item for item in items if item.key not in ledger.rows]
    for item in tqdm(todo, desc="evaluate", unit="clip", disable=not progress):
        try:
            clip = item.produce()
        except VoicegraftError as error:
            clip = Clip(np.zeros(0, np.float32), 16_000, status=f"error: {error}")
        if keep is not None:
            keep(item, clip)
        ledger.add(judge_clip(item, clip, judges, voices))
    return [ledger.rows[item.key] for item in items]
