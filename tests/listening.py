"""Listening tests without people: made-up sound, and results as the page would write them."""

import json
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from voicegraft.audio.io import write_audio
from voicegraft_listening.page import ANCHOR, MOS, RECORDINGS, SCALES

RATE = 16_000
Opinion = Callable[[str, str], int]  # system, scale -> 1 to 5

# What honest listeners think, by system.
TRUTH = {RECORDINGS: 5, "splendid": 4, "middling": 3, "horrible": 2, ANCHOR: 1}


def write_voices(folder: Path, name: str, num_sentences: int, seconds: float = 0.3) -> Path:
    """A folder of tones, one pitch per sentence."""
    (folder / name).mkdir(parents=True)
    time = np.arange(round(seconds * RATE)) / RATE
    for index in range(num_sentences):
        samples = 0.1 * (index + 1) / num_sentences * np.sin(2 * np.pi * (200 + 50 * index) * time)
        write_audio(folder / name / f"sentence_{index:02d}.wav", samples.astype(np.float32), RATE)
    return folder / name


def honest(rng: random.Random) -> Opinion:
    """The truth, one point off now and then."""
    return lambda system, scale: min(5, max(1, TRUTH[system] + rng.choice((0, 0, 0, -1, 1))))


def page_results(
    key: dict[str, Any], listener: str, opinion: Opinion, seed: int = 0, decide_ms: int = 1500
) -> dict[str, Any]:
    """Results of a listener, as the page makes them, without the checksum.

    In a pair the system with the better mean opinion wins; equal ones make no difference.
    """
    rng = random.Random(seed)
    system = {clip: about["system"] for clip, about in key["clips"].items()}
    trials = []
    for part in key["parts"]:
        drawn = [_draw(pool, rng) for pool in part["pools"]]
        shown = [list(item["clips"]) for pool in drawn for item in pool]
        shown += [item["clips"][::-1] for item in rng.sample(drawn[0], part["num_repeats"])]
        rng.shuffle(shown)
        for clips in shown:
            heard_ms = sum(key["clips"][clip]["duration_ms"] for clip in clips) + 100
            verdict: dict[str, Any]
            if part["kind"] == MOS:
                verdict = {"scores": {scale: opinion(system[clips[0]], scale) for scale in SCALES}}
            else:
                points = [sum(opinion(system[clip], scale) for scale in SCALES) for clip in clips]
                verdict = {"answer": "same" if points[0] == points[1] else "AB"[points[1] > points[0]]}
            times = {"heard_ms": heard_ms, "total_ms": heard_ms + decide_ms, "plays": len(clips)}
            trials.append({"part": part["kind"], "clips": clips, **verdict, **times})
    return {
        "kind": "listening-test-results", "format": 1, "test": key["test"], "listener": listener,
        "session": f"{seed:016x}", "device": "headphones", "seed": seed, "started": "2026-01-01T10:00:00.000Z",
        "finished": f"2026-01-01T11:{seed % 60:02d}:00.000Z", "trials": trials,
    }  # fmt: skip


def save(folder: Path, results: dict[str, Any], name: str = "") -> Path:
    """Writes the file that the listener would send, with its checksum."""
    text = json.dumps(results, separators=(",", ":"), ensure_ascii=False)
    path = folder / f"results-{name or results['listener']}.json"
    path.write_text(json.dumps({**results, "crc32": zlib.crc32(text.encode())}), encoding="utf-8")
    return path


def _draw(pool: dict[str, Any], rng: random.Random) -> list[dict[str, Any]]:
    """Conditions in turn."""
    items = rng.sample(pool["items"], len(pool["items"]))
    used: dict[int, int] = {}
    turns = []
    for item in items:
        used[item["condition"]] = used.get(item["condition"], 0) + 1
        turns.append(used[item["condition"]])
    order = sorted(range(len(items)), key=turns.__getitem__)
    return [items[index] for index in order[: pool["take"]]]
