"""A made-up report, and audio for its rows."""

import numpy as np

from voicegraft.evaluation.metrics.rates import char_edits, word_edits
from voicegraft.evaluation.speech.items import Clip

RATE = 8_000
VOICES = ("ann", "bob")
STAGES = ("recordings", "codec re-synthesis", "speech")


def make_clip(row):
    """Half a second of noise that swells."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, RATE // 2)
    return Clip((noise * np.linspace(0, 1, len(noise))).astype(np.float32), RATE)


def make_row(number, text="word word word word", heard="word word", stage="speech", voice="ann", mos=3.0):
    words, chars = word_edits(text, heard), char_edits(text, heard)
    return {
        "stage": stage,
        "voice": voice,
        "id": f"{number:04d}",
        "text": text,
        "reference": text,
        "heard": heard,
        "word_errors": words.errors,
        "num_words": words.length,
        "char_errors": chars.errors,
        "num_chars": chars.length,
        "mos": {"ovrl": mos, "sig": 3.0, "bak": 3.0, "p808": 3.0},
        "similarity": {"ann": 0.9, "bob": 0.7},
        "prompt_similarity": None,
        "duration_sec": 2.0 + number / 10,
        "spoken_sec": 1.8,
        "pitch": {"median_hz": 150.0 + number, "iqr_semitones": 4.0, "voiced_share": 0.6},
        "pauses_sec": [0.2] * (number % 3),
        "wall_sec": None if stage == "recordings" else 0.5,
        "first_audio_sec": 0.1 if stage == "speech" else None,
        "status": "ok",
        "faults": [],
        "faults_judged": False,
        "num_retries": 0,
        "ran_away": False,
    }


def make_report(rows=None):
    """Four items of a voice in three stages, and of another in one; or the rows given. Recordings say other texts."""
    if rows is None:
        rows = [
            {**make_row(n, f"{said} " * (2 + n) + "end", "word word", stage, voice, 3 - n / 10), "id": f"{said}{n}"}
            for stage, voice, said in [
                *((stage, "ann", "word") for stage in STAGES[:2]),
                *((STAGES[2], v, "say") for v in VOICES),
            ]
            for n in range(4)
        ]
    value = {"value": 0.25, "low": 0.2, "high": 0.3}
    groups = dict.fromkeys((row["stage"], row["voice"]) for row in rows)
    summary = [
        {
            "stage": stage,
            "voice": voice,
            "num_clips": 4,
            "wer": value,
            "cer": 0.1,
            "mos": {"ovrl": value, "sig": value},
            "similarity": {"ann": 0.9, "bob": 0.7},
            "rtf": 0.25,
            "first_audio_ms": {"median": 100.0, "p95": 150.0},
            "num_retries": 1,
            "faults": {"runaway": {"num": 2, **value}},
            "estimates": {"wer": value, "cer": value, "mos": value, "similarity": value, "pitch_hz": value},
            "against_recordings": {"pitch_hz": {"difference": 3.0, "low": 1.0, "high": 5.0, "distance": 2.0}},
        }
        for stage, voice in groups
    ]
    return {
        "about": {"pack": "tiny", "fingerprint": "0123", "prompts": "prompts.txt", "date": "2026-01-01", "limit": None},
        "environment": {"python": "3", "packages": {"numpy": "2", "torch": None}},
        "summary": summary,
        "rows": rows,
    }
