"""One recording of a user's corpus: read, checked, trimmed and levelled, or rejected with the reason."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voicegraft.audio.io import declared_frames, open_audio, read_frames, to_mono
from voicegraft.audio.level import active_rms, levelled_pcm, loud_frames, trim_silence
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.sources.record import Record
from voicegraft.text.spoken_form import num_letters

REASONS = {
    "bad_row": "its line in the table cannot be read",
    "duplicate_id": "an earlier recording has the same id",
    "no_text": "the text is missing or empty",
    "bad_text": "the text is not UTF-8",
    "no_letters": "the text has neither letters nor digits",
    "audio_missing": "there is no such audio file",
    "unreadable": "the file cannot be read as audio",
    "cut_short": "the file ends before its header says (seconds)",
    "past_end": "the stretch ends after the file does (seconds)",
    "low_rate": "the file's sample rate is too low for the target (Hz)",
    "too_long": "the recording is too long (seconds)",
    "cancelled": "the channels cancel each other when they are mixed (level of the mix, dBFS)",
    "silent": "there is nothing to hear (level of the speech, dBFS)",
    "clipped": "too many samples at full scale (share)",
    "too_short": "too little is left between the silences (seconds)",
    "too_slow": "too few letters per second for this text to be what is said",
    "too_fast": "too many letters per second for this text to be what is said",
}
_FULL_SCALE = 0.999
_SLACK_SEC = 0.1  # a manifest's times are rounded
_FLOOR_DB = -120.0  # digital silence has no level
_MOST_CHANNELS = 32


@dataclass(frozen=True)
class Limits:
    """What a recording may be; outside of it, it is rejected."""

    min_sec: float = 0.5  # seconds, after trimming
    max_sec: float = 30.0  # seconds, before trimming
    min_level_db: float = -55.0  # dBFS of the active frames
    max_clipped: float = 0.002  # share of the samples
    min_letters_per_sec: float = 2.0  # after trimming; a digit counts as four letters, as its word has
    max_letters_per_sec: float = 30.0
    min_file_rate: int | None = None  # Hz; None: two thirds of the target, as what lies above half of it is lost

    def __post_init__(self) -> None:
        for low, high, what in (
            (self.min_sec, self.max_sec, "seconds"),
            (self.min_letters_per_sec, self.max_letters_per_sec, "letters per second"),
        ):
            if not 0 <= low < high:
                raise ValueError(f"expected a least and a greatest number of {what}, got {low:g} and {high:g}")


@dataclass(frozen=True, eq=False)
class Examined:
    """What became of a recording."""

    facts: dict[str, Any]  # one line of JSON: what was measured, and the reason where it was rejected
    samples: np.ndarray | None  # int16 [T]; None when it was rejected


class _Rejected(Exception):
    """Ends the examination: the reason, what was measured and the limit that it broke."""

    def __init__(self, reason: str, value: float | str | None = None, limit: float | None = None):
        super().__init__(reason)
        self.facts = {"reason": reason, "value": _rounded(value), "limit": limit}


def clean_text(text: str | None) -> str:
    """The text in one line and in composed characters (Unicode NFC)."""
    return unicodedata.normalize("NFC", " ".join(well_formed(text or "").split()))


def well_formed(text: str) -> str:
    """Text that can be written as UTF-8: half characters, of file names or of JSON's escapes, become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def examine(record: Record, audio: Path | bytes, duplicate: bool, sample_rate: int, limits: Limits) -> Examined:
    """Reads, checks, trims and levels one recording; whatever is wrong with it is told, never raised.

    Args:
        audio: the file, or its bytes, of ``record.audio``.
        duplicate: an earlier record has this id.
        sample_rate: Hz of the result, which is cut to a whole number of 20 ms frames.
    """
    path = well_formed(str(audio)) if isinstance(audio, Path) else ""
    facts: dict[str, Any] = {"id": record.id, "path": path, "text": clean_text(record.text)}
    try:
        samples = _examine(record, audio, duplicate, sample_rate, limits, facts)
    except _Rejected as fault:
        return Examined(facts | fault.facts, None)
    except VoicegraftError as error:
        return Examined(facts | _Rejected("unreadable", str(error)).facts, None)
    return Examined(facts, samples)


def _examine(
    record: Record, audio: Path | bytes, duplicate: bool, sample_rate: int, limits: Limits, facts: dict[str, Any]
) -> np.ndarray:
    """Levelled samples int16 ``[T]``; fills in the facts on the way."""
    text = facts["text"]
    if record.fault:
        raise _Rejected("bad_row", record.fault)
    if duplicate:
        raise _Rejected("duplicate_id")
    if not text:
        raise _Rejected("no_text")
    if "\ufffd" in text:
        raise _Rejected("bad_text")
    if not num_letters(text):
        raise _Rejected("no_letters")
    if isinstance(audio, Path) and not audio.is_file():
        raise _Rejected("audio_missing")
    name = facts["path"] or record.id
    with open_audio(audio, name) as file:
        rate, length_sec = file.samplerate, file.frames / file.samplerate
        if file.channels > _MOST_CHANNELS:
            raise _Rejected("unreadable", f"{name} has {file.channels} channels", _MOST_CHANNELS)
        said_sec = (declared_frames(audio) or file.frames) / rate
        if said_sec > length_sec + _SLACK_SEC:
            raise _Rejected("cut_short", length_sec, said_sec)
        end_sec = length_sec if record.duration_sec is None else record.start_sec + record.duration_sec
        read_sec = end_sec - record.start_sec
        facts |= {"file_rate": rate, "channels": file.channels, "read_sec": _rounded(max(0.0, read_sec))}
        if end_sec > length_sec + _SLACK_SEC or record.start_sec > length_sec:
            raise _Rejected("past_end", end_sec, length_sec)
        least_rate = sample_rate * 2 // 3 if limits.min_file_rate is None else limits.min_file_rate
        if rate < least_rate:
            raise _Rejected("low_rate", rate, least_rate)
        if read_sec > limits.max_sec:  # told from the header, before hours of it are read
            raise _Rejected("too_long", read_sec, limits.max_sec)
        frames = read_frames(file, name, record.start_sec, record.duration_sec)
        if file.format == "FLAC" and len(frames) / rate < read_sec - _SLACK_SEC:
            raise _Rejected("cut_short", record.start_sec + len(frames) / rate, length_sec)
    if record.channel is not None and record.channel < frames.shape[1]:
        frames = frames[:, record.channel : record.channel + 1]
    clipped = float(np.mean(np.abs(frames).max(axis=1) >= _FULL_SCALE))
    whole = to_mono(frames, rate, sample_rate).samples
    level_db = _level_db(frames.mean(axis=1), rate)
    facts |= {"level_db": _rounded(level_db), "clipped": _rounded(clipped)}
    if level_db < limits.min_level_db:
        heard = max(_level_db(channel, rate) for channel in frames.T)
        raise _Rejected("cancelled" if heard >= limits.min_level_db else "silent", level_db, limits.min_level_db)
    if clipped > limits.max_clipped:
        raise _Rejected("clipped", clipped, limits.max_clipped)
    facts["silence"] = _rounded(1 - float(loud_frames(whole, sample_rate).mean()))
    samples = levelled_pcm(trim_silence(whole, sample_rate), sample_rate, sample_rate // 50)
    kept_sec = len(samples) / sample_rate
    facts["kept_sec"] = kept_sec
    if kept_sec < limits.min_sec or not len(samples):
        raise _Rejected("too_short", kept_sec, limits.min_sec)
    speed = num_letters(text) / kept_sec
    facts["letters_per_sec"] = _rounded(speed)
    if speed < limits.min_letters_per_sec:
        raise _Rejected("too_slow", speed, limits.min_letters_per_sec)
    if speed > limits.max_letters_per_sec:
        raise _Rejected("too_fast", speed, limits.max_letters_per_sec)
    return samples


def _level_db(samples: np.ndarray, sample_rate: int) -> float:
    """Level of the speech in ``[T]``, dBFS; of a constant, or steps of it, there is none."""
    frame = max(1, sample_rate // 50)
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame)
    level = active_rms((frames - frames.mean(1, keepdims=True)).reshape(-1), 50 * frame)
    return 20 * math.log10(level) if level else _FLOOR_DB


def _rounded(value: float | str | None) -> float | str | None:
    """Six digits: a report is for people."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
