"""Listening tests by people: one page that works from a file, and the key that stays with the experimenter.

OUT/page/index.html   for the listeners: audio inside, no names, nothing is loaded or sent
OUT/key.json          for the experimenter: which clip is whose
"""

from __future__ import annotations

import base64
import json
import math
import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from voicegraft.audio.io import SUFFIXES, encode_flac, read_audio
from voicegraft.audio.level import normalise_level, trim_silence
from voicegraft.core.artifacts import atomic_folder
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.evaluation.judges.base import JUDGE_RMS

RECORDINGS, ANCHOR = "recordings", "low anchor"
MOS, AB = "mos", "ab"
KEY_NAME, KEY_KIND, KEY_FORMAT = "key.json", "listening-test-key", 1
# scale -> title, question, the five categories from 1 to 5. Audio quality has the words of ITU-T P.800's ACR scale.
SCALES = {
    "likeness": (
        "Human likeness",
        "How human does the speaker sound?",
        ("Completely artificial", "Mostly artificial", "Equally artificial and human", "Mostly human", "Completely human"),
    ),
    "quality": (
        "Audio quality",
        "How clear and clean is the sound?",
        ("Bad", "Poor", "Fair", "Good", "Excellent"),
    ),
}  # fmt: skip
_PAGE = Path(__file__).parent / "page.html"
_HIGHEST_RATE = 48_000  # Hz; nobody hears more
_MAX_PAGE_BYTES = 150 * 2**20  # a phone must hold the page in memory
_RATING_SEC = {MOS: 6.0, AB: 4.0}  # to decide, once everything was heard; for the estimate on the first screen


@dataclass(frozen=True)
class ListeningTestConfig:
    out: Path  # a new folder
    systems: tuple[tuple[str, Path], ...] = ()  # name and folder of audio files; equal file stems say the same
    parts: tuple[str, ...] = (MOS,)  # opinion scores (mos), preferences (ab)
    recordings: Path | None = None  # folder with a human saying the same sentences: hidden reference
    texts: Path | None = None  # JSON lines with text and file (or audio): shows what is said
    num_sentences: int | None = None  # the first N, and one for practice; none: all
    per_listener: int | None = None  # clips (pairs) that one listener rates in each part; none: all
    num_checks: int = 4  # hidden checks of the listener per part: repeated items, and pairs with the low anchor


def make_listening_test(config: ListeningTestConfig) -> dict[str, Any]:
    """Writes the page and the key, and returns the key.

    The last sentence is for practice; its ratings are not kept.
    Raises VoicegraftError for folders that do not fit together, and for an `out` that holds something: a key
    that was written over would make the results gathered so far worthless.
    """
    if config.out.is_dir() and any(config.out.iterdir()):
        raise VoicegraftError(
            f"expected a new or empty folder for the test, {config.out} holds files; give another --out"
        )
    _check(config)
    files = _find_files(config)
    stems = _choose_sentences(files, config.num_sentences)
    texts = _read_texts(config.texts, stems) if config.texts else {}
    rate = min(_HIGHEST_RATE, max(_rate(files[name][stem]) for name in files for stem in stems))
    source = RECORDINGS if config.recordings else config.systems[0][0]

    test, clips, audio = secrets.token_hex(8), {}, {}
    place: dict[tuple[str, str], str] = {}  # (system, sentence) -> clip
    for stem in stems:
        for name in (*files, ANCHOR) if stem != stems[-1] else (source, ANCHOR):
            path = files[source if name == ANCHOR else name][stem]
            samples = _level(read_audio(path, rate).samples, rate)
            if not samples.any():
                raise VoicegraftError(f"{path} holds no sound; leave this sentence out")
            if name == ANCHOR:
                samples = _level(low_anchor(samples, rate), rate)
            clip = secrets.token_hex(6)
            place[name, stem] = clip
            clips[clip] = {"system": name, "sentence": stem, "duration_ms": round(1000 * len(samples) / rate)}
            audio[clip] = encode_flac(samples, rate)
    parts = [_part(kind, config, list(files), stems, place, source) for kind in config.parts]
    key = {
        "kind": KEY_KIND,
        "format": KEY_FORMAT,
        "test": test,
        "systems": [name for name, _ in config.systems],
        "sentences": stems[:-1],
        "practice_sentence": stems[-1],
        "sample_rate": rate,
        "parts": [{k: v for k, v in part.items() if k != "practice"} for part in parts],
        "clips": clips,
    }
    page = _page(test, parts, place[source, stems[-1]], clips, audio, texts)
    with atomic_folder(config.out) as folder:
        write_text(folder / "page" / "index.html", page)
        write_text(folder / KEY_NAME, json.dumps(key, indent=1, ensure_ascii=False))
    return key


def low_anchor(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Speech ``[T]`` of the same words that is clearly worst on both scales, for telling who listens.

    The 3.5 kHz low-pass of MUSHRA's low anchor (ITU-R BS.1534) alone would not do: low-passed, a human may still beat a
    synthetic voice. So for human likeness the melody goes first (with all phases zero, a frame every 10 ms makes a robot
    on one note of 100 Hz), and for audio quality noise comes in proportion to the speech, as from the modulated noise
    reference unit of ITU-T P.810 at 5 dB.
    """
    hop = sample_rate // 100
    width = 3 * hop  # long enough for the vowels' resonances, too short to keep the old melody
    padded = np.pad(samples, (width, width + -len(samples) % hop))
    window = np.hanning(width)
    frames = np.lib.stride_tricks.sliding_window_view(padded, width)[::hop] * window
    pulses = np.fft.fftshift(np.fft.irfft(np.abs(np.fft.rfft(frames)), width), axes=1) * window
    robot = np.zeros(len(padded))
    for index, pulse in enumerate(pulses):
        robot[index * hop : index * hop + width] += pulse
    robot = robot[width : width + len(samples)]
    robot *= 1 + 10 ** (-5 / 20) * np.random.default_rng(0).standard_normal(len(robot))
    spectrum = np.fft.rfft(robot)
    spectrum[np.fft.rfftfreq(len(robot), 1 / sample_rate) > 3500] = 0
    return np.fft.irfft(spectrum, len(robot)).astype(np.float32)


def _check(config: ListeningTestConfig) -> None:
    names = [name for name, _ in config.systems]
    if not names:
        raise VoicegraftError("there is nothing to compare; give --system NAME=FOLDER, once for each system")
    for name in names:
        if name in (RECORDINGS, ANCHOR) or names.count(name) > 1:
            raise VoicegraftError(f"the system name {name!r} is taken; give each system a name of its own")
    if not config.parts or set(config.parts) - {MOS, AB} or len(set(config.parts)) < len(config.parts):
        raise VoicegraftError(f"expected parts of {MOS}, {AB}, each once, got {' '.join(config.parts) or 'none'}")
    if AB in config.parts and len(names) < 2:
        raise VoicegraftError(f"the part {AB} compares two systems; give --system NAME=FOLDER at least twice")
    for flag, value, least in (
        ("--sentences", config.num_sentences, 1),
        ("--per-listener", config.per_listener, 1),
        ("--checks", config.num_checks, 0),
    ):
        if value is not None and value < least:
            raise VoicegraftError(f"expected {flag} of {least} or more, got {value}")


def _find_files(config: ListeningTestConfig) -> dict[str, dict[str, Path]]:
    """Name (of the systems, then the recordings) -> sentence -> file."""
    folders = dict(config.systems)
    if config.recordings:
        folders[RECORDINGS] = config.recordings
    found: dict[str, dict[str, Path]] = {}
    for name, folder in folders.items():
        if not folder.is_dir():
            raise VoicegraftError(f"expected a folder of audio files for {name}, found none at {folder}")
        found[name] = {}
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() not in SUFFIXES:
                continue
            if path.stem in found[name]:
                raise VoicegraftError(
                    f"{folder} holds {path.stem!r} twice, as {found[name][path.stem].name} and {path.name}"
                )
            found[name][path.stem] = path
    return found


def _choose_sentences(files: Mapping[str, Mapping[str, Path]], num_sentences: int | None) -> list[str]:
    """The sentences that everybody says; the last one is for practice."""
    common = sorted(set.intersection(*(set(paths) for paths in files.values())))
    needed = 2 if num_sentences is None else num_sentences + 1
    if len(common) < needed:
        counts = ", ".join(f"{name} {len(paths)}" for name, paths in files.items())
        raise VoicegraftError(
            f"expected at least {needed} audio files of the same name in every folder (one is for practice), found "
            f"{len(common)} ({counts})"
        )
    return common if num_sentences is None else common[: num_sentences + 1]


def _read_texts(path: Path, stems: Sequence[str]) -> dict[str, str]:
    """What the files say: report.jsonl of ``voicegraft speak --lines``, or a manifest.jsonl."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        texts = {Path(row.get("file") or row["audio"]).stem: str(row["text"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VoicegraftError(
            f"cannot read texts from {path} ({error!r}); expected a JSON object a line with file (or audio) and text"
        ) from error
    missing = [stem for stem in stems if stem not in texts]
    if missing:
        raise VoicegraftError(
            f"{path} has no text for {len(missing)} of {len(stems)} sentences, such as {missing[0]!r}"
        )
    return texts


def _rate(path: Path) -> int:
    try:
        return int(soundfile.info(path).samplerate)
    except (OSError, soundfile.LibsndfileError) as error:
        raise VoicegraftError(f"cannot read {path} as audio: {error}") from error


def _level(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """No clip gives itself away by its loudness or by the silence around it."""
    return normalise_level(trim_silence(samples, sample_rate), sample_rate, rms=JUDGE_RMS)


def _part(
    kind: str,
    config: ListeningTestConfig,
    names: Sequence[str],
    stems: Sequence[str],
    place: Mapping[tuple[str, str], str],
    best: str,
) -> dict[str, Any]:
    """What is rated: pools of items, of which each listener gets `take`, and `num_repeats` of the first pool again.

    Items, sentences and conditions come in random order and as numbers, so that a reader of the page learns nothing.
    """
    systems = [name for name, _ in config.systems]
    conditions = [(name,) for name in (*names, ANCHOR)] if kind == MOS else list(combinations(systems, 2))
    numbers = random.sample(range(len(stems)), len(stems))

    def item(condition: Sequence[str], stem: str, number: int) -> dict[str, Any]:
        clips = random.sample([place[name, stem] for name in condition], len(condition))
        return {"sentence": numbers[stems.index(stem)], "condition": number, "clips": clips}

    def pool(conditions: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
        shuffled = random.sample(conditions, len(conditions))
        items = [item(condition, stem, number) for number, condition in enumerate(shuffled) for stem in stems[:-1]]
        return random.sample(items, len(items))

    items = pool(conditions)
    take = min(config.per_listener or len(items), len(items))
    if take < len(conditions):
        raise VoicegraftError(
            f"each listener must rate all {len(conditions)} conditions of the part {kind} at least once; "
            f"expected --per-listener of {len(conditions)} or more, got {take}"
        )
    pools = [{"take": take, "items": items}]
    if kind == AB and config.num_checks:
        catches = pool([(best, ANCHOR)])
        pools.append({"take": min(config.num_checks, len(catches)), "items": catches})
    practised = [(best,), (ANCHOR,)] if kind == MOS else [(best, ANCHOR)]
    return {
        "kind": kind,
        "num_repeats": min(config.num_checks, take),
        "pools": pools,
        "practice": [item(condition, stems[-1], 0) for condition in practised],
    }


def _page(
    test: str,
    parts: Sequence[Mapping[str, Any]],
    volume_clip: str,
    clips: Mapping[str, Mapping[str, Any]],
    audio: Mapping[str, bytes],
    texts: Mapping[str, str],
) -> str:
    used, num_sec = {volume_clip}, 0.0
    for part in parts:
        items = [item for pool in part["pools"] for item in pool["items"]] + part["practice"]
        heard = [clip for item in items for clip in item["clips"]]
        used.update(heard)
        num_trials = sum(pool["take"] for pool in part["pools"]) + part["num_repeats"] + len(part["practice"])
        mean_sec = sum(clips[clip]["duration_ms"] for clip in heard) / 1000 / len(items)
        num_sec += num_trials * (mean_sec + _RATING_SEC[part["kind"]])
    plan = {
        "test": test,
        "minutes": math.ceil(num_sec / 60) + 1,
        "volumeClip": volume_clip,
        "scales": [{"name": n, "title": t, "question": q, "words": w} for n, (t, q, w) in SCALES.items()],
        "parts": parts,
        "texts": {clip: texts[clips[clip]["sentence"]] for clip in sorted(used)} if texts else {},
    }
    # "<" would let a text end the script element.
    data = json.dumps(plan, ensure_ascii=False).replace("<", "\\u003c")
    blocks = "\n".join(
        f'<script type="text/plain" id="clip-{clip}">{base64.b64encode(audio[clip]).decode()}</script>'
        for clip in sorted(used)
    )
    page = _PAGE.read_text(encoding="utf-8").replace("@CLIPS@", blocks).replace("@TEST@", data)
    if len(page) > _MAX_PAGE_BYTES:
        raise VoicegraftError(
            f"the page would have {len(page) / 2**20:.0f} MiB, more than the {_MAX_PAGE_BYTES // 2**20} that a phone "
            "holds; take fewer sentences (--sentences N)"
        )
    return page
