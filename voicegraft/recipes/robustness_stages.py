"""The measurements of ``evaluate robustness``, one function each."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from voicegraft.audio.io import write_audio
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.ledger import Ledger, Row
from voicegraft.data.manifest import read_manifest
from voicegraft.evaluation.judges.faults import FaultJudge
from voicegraft.evaluation.judges.word_alignment import AlignmentError, ForcedAligner
from voicegraft.evaluation.metrics.rates import duration_budget_sec
from voicegraft.evaluation.speech.fault_injection import KINDS, FaultyMachine
from voicegraft.evaluation.speech.robustness_suite import load_suite
from voicegraft.guard.guarded import GuardedTokens
from voicegraft.guard.monitor import Monitor
from voicegraft.inference.engine import sentence_tokens
from voicegraft.inference.report import SpokenSentence
from voicegraft.inference.sentence import SpeakOptions
from voicegraft.inference.speaker import Speaker
from voicegraft.inference.speech import Speech
from voicegraft.text.frontend import spoken_text
from voicegraft.text.units import words_of

STAGES = ("suite", "fault-injection", "cost", "timestamps", "long")
NUM_INJECTED = 150  # sentences of each kind of fault
NUM_TIMED = 50
MIN_WORDS = 8  # that a sentence needs for a clause to be left out of it


@dataclass(frozen=True)
class RobustnessConfig:
    out: Path  # folder for the report
    pack: Path | None = None  # voice pack; none: the pocket pack
    voice: str | None = None  # a voice of the pack; none: its default
    stages: tuple[str, ...] = STAGES[:3]  # of suite, fault-injection, cost, timestamps, long
    limit: int | None = None  # of utterances, and of injected faults of each kind
    shard: str = "0/1"  # I/N: every N-th utterance from the I-th on
    recordings: Path | None = None  # folder with manifest.jsonl: texts for timestamps
    minutes: float = 20.0  # of the long text
    keep_audio: bool = False  # of every utterance of the suite, not only of those that somebody complained of

    def __post_init__(self) -> None:
        if unknown := [stage for stage in self.stages if stage not in STAGES]:
            raise ValueError(f"there is no stage {unknown[0]!r}; choose among {', '.join(STAGES)}")
        if not re.fullmatch(r"\d+/\d+", self.shard) or self.part[0] >= self.part[1]:
            raise ValueError(f"expected a shard I/N with I from 0 to N - 1, got {self.shard!r}")

    @property
    def part(self) -> tuple[int, int]:
        """The number of this shard, and how many there are."""
        number, count = map(int, self.shard.split("/"))
        return number, count


def with_guard(speaker: Speaker, mode: str) -> SpeakOptions:
    """The pack's options with the guard in this mode."""
    options = speaker.pack.header.options
    return replace(options, guard=replace(options.guard, mode=mode))


def suite(config: RobustnessConfig, speaker: Speaker, voice: str, ledger: Ledger) -> None:
    """A row for every utterance of the suite; what anybody complained of is kept as sound under ``out/audio``."""
    judge = FaultJudge()
    for item in _share_of(load_suite()[: config.limit], config, "suite", ledger, voice, lambda item: item.id):
        # The guard draws nothing of its own: what it lets pass is the same sound with and without it.
        watched = speaker.say(item.text, voice, options=with_guard(speaker, "watch"))
        row: Row = {"stage": "suite", "voice": voice, "id": item.id, "kind": item.kind, "text": item.text}
        row["num_words"] = watched.report.num_words
        row["skipped"] = watched.report.skipped
        row["without"] = row["with"] = _judged(watched, judge)
        if watched.report.num_faults:
            guarded = speaker.say(item.text, voice, options=with_guard(speaker, "on"))
            row["with"] = _judged(guarded, judge)
            _keep(config.out / "audio" / f"{item.id}-with.flac", guarded)
        if config.keep_audio or row["without"]["judged"] or row["without"]["faults"]:
            _keep(config.out / "audio" / f"{item.id}-without.flac", watched)
        ledger.add(row)


def fault_injection(config: RobustnessConfig, speaker: Speaker, voice: str, ledger: Ledger) -> None:
    """A row for every fault that is put into what the decoder says."""
    monitor = speaker.pack.monitor
    assert monitor is not None
    options = speaker.pack.header.options
    statements = [item for item in load_suite() if item.kind == "statement" and len(words_of(item.text)) >= MIN_WORDS]
    number = min(config.limit or NUM_INJECTED, NUM_INJECTED)
    todo = [(kind, statements[n % len(statements)], n) for kind in KINDS for n in range(number)]
    for kind, item, n in _share_of(todo, config, "fault-injection", ledger, voice, lambda job: f"{job[0]} {job[2]}"):
        random_numbers = np.random.default_rng(n)
        part = next(iter(speaker.pack.frontend.sentences([item.text]))).parts[0]
        machine = partial(KINDS[kind], draw=random.Random(f"{kind} {n}"))
        double = sentence_tokens(
            speaker.pack.lm,
            part.text,
            voice,
            options,
            random_numbers,
            machine=machine,
            pronunciations=part.pronunciations,
        )
        guarded = GuardedTokens(double, monitor, voice, options.guard)
        handed = list(guarded)
        first = guarded.faults[0] if guarded.faults else None
        at = cast(FaultyMachine, double.machine).fault_at
        again = Monitor(monitor, double.units, voice, options.guard.sensitivity)
        sound = again.push(handed, ended=True) is None
        ledger.add(
            {
                "stage": "fault-injection",
                "voice": voice,
                "id": f"{kind} {n}",
                "kind": kind,
                "text": item.text,
                "injected_at": at,
                "caught": first is not None and at is not None and first.seen_at >= at,
                "alarm_before": first is not None and (at is None or first.seen_at < at),
                "late": None if first is None or at is None else first.seen_at - at,
                "told_as": None if first is None else first.kind,
                "mended": guarded.failed is None and sound,
                "num_retries": guarded.num_retries,
            }
        )


def cost(config: RobustnessConfig, speaker: Speaker, voice: str) -> dict[str, Any]:
    """Seconds with the guard on and off, in turns over the same sentences."""
    statements = [item for item in load_suite() if item.kind == "statement"][: config.limit or 40]
    taken: dict[str, list[tuple[float, float, float]]] = {"off": [], "on": []}
    speaker.say(statements[0].text, voice)
    for number, item in enumerate(statements):
        for mode in sorted(taken, reverse=bool(number % 2)):
            said = speaker.say(item.text, voice, options=with_guard(speaker, mode))
            taken[mode].append((said.wall_sec / said.duration_sec, said.first_audio_sec, said.report.num_retries))
    rtf = {mode: np.array([row[0] for row in rows]) for mode, rows in taken.items()}
    first = {mode: np.array([row[1] for row in rows]) for mode, rows in taken.items()}
    return {
        "sentences": len(statements),
        "RTF off": round(float(np.median(rtf["off"])), 3),
        "RTF on": round(float(np.median(rtf["on"])), 3),
        "RTF, median of the ratios": round(float(np.median(rtf["on"] / rtf["off"])), 3),
        "first audio off, ms": round(1000 * float(np.median(first["off"]))),
        "first audio on, ms": round(1000 * float(np.median(first["on"]))),
        "first audio, median of the ratios": round(float(np.median(first["on"] / first["off"])), 3),
        "retries": int(sum(row[2] for row in taken["on"])),
    }


def timestamps(config: RobustnessConfig, speaker: Speaker, voice: str) -> dict[str, Any]:
    """Word times against pocketsphinx's forced alignment, on texts of recordings that are spoken anew."""
    if config.recordings is None:
        raise VoicegraftError("the stage timestamps needs --recordings FOLDER: the texts that its words are timed in")
    clips = [clip for clip in read_manifest(config.recordings) if clip.speaker.casefold() == voice.casefold()]
    if not clips:
        raise VoicegraftError(f"{config.recordings} holds no recording of the voice {voice!r}")
    aligner, starts, ends, left_out = ForcedAligner(), [], [], 0
    for clip in random.Random(0).sample(clips, min(config.limit or NUM_TIMED, len(clips))):
        said = speaker.say(clip.text, voice)
        words = [word for sentence in said.sentences for word in sentence.words]
        try:
            aligned = aligner.align(said.samples, said.sample_rate, [word.word for word in words])
        except AlignmentError:
            left_out += 1
            continue
        starts += [word.start_sec - truth.start_sec for word, truth in zip(words, aligned, strict=True)]
        ends += [word.end_sec - truth.end_sec for word, truth in zip(words, aligned, strict=True)]
    both = 1000 * np.abs(np.array([*starts, *ends]))
    return {
        "words": len(starts),
        "recordings left out (not aligned)": left_out,
        "median error, ms": round(float(np.median(both)), 1),
        "median error of starts, ms": round(1000 * float(np.median(np.abs(starts))), 1),
        "median error of ends, ms": round(1000 * float(np.median(np.abs(ends))), 1),
        "p95 error, ms": round(float(np.quantile(both, 0.95)), 1),
        "later than the alignment (median), starts and ends, ms": [
            round(1000 * float(np.median(errors)), 1) for errors in (starts, ends)
        ],
    }


def long_text(config: RobustnessConfig, speaker: Speaker, voice: str) -> dict[str, Any]:
    """One stream of many minutes: memory by the minute, jumps between samples at all seams, words said."""
    lines = [item.text for item in load_suite() if item.kind in ("statement", "question", "number", "dialogue")]
    wanted = said_words = 0
    lost: list[str] = []

    def text() -> Iterator[str]:
        nonlocal wanted
        while stream.report.duration_sec < 60 * config.minutes:
            line = lines[wanted % len(lines)]
            wanted += 1
            yield line + " "

    def spoken(sentence: SpokenSentence) -> None:
        nonlocal said_words
        expected = [word.letters for word in words_of(spoken_text(speaker.pack.frontend, sentence.written))]
        said_words += len(expected)
        if [word.word for word in sentence.words] != expected:
            lost.append(sentence.written)

    started = time.perf_counter()
    stream = speaker.stream(text(), voice, on_spoken=spoken)
    memory: list[float] = []
    seams, inside = [], []
    before = np.zeros(1, np.float32)
    for chunk in stream:
        # A click is a jump at a seam that is larger than the jumps around it.
        around = max(_largest_jump(before[-480:]), _largest_jump(chunk[:480]))
        seams.append((abs(float(chunk[0] - before[-1])), around))
        inside.append(_largest_jump(chunk))
        before = chunk[-480:]
        if stream.report.duration_sec >= 60 * (len(memory) + 1):
            memory.append(_resident_mb())
    jumps = np.array(seams)
    usual = float(np.quantile(inside, 0.95))
    clicks = (jumps[:, 0] > 1.5 * jumps[:, 1]) & (jumps[:, 0] > 0.25 * usual)
    report = stream.report
    return {
        "minutes of sound": round(report.duration_sec / 60, 2),
        "wall minutes": round((time.perf_counter() - started) / 60, 2),
        "status": report.status,
        "sentences": report.num_sentences,
        "words expected and said": [said_words, report.num_words],
        "sentences with other words": lost,
        "faults, retries": [report.num_faults, report.num_retries],
        "resident memory after each minute, MB": [round(mb, 1) for mb in memory],
        "seams": len(jumps),
        "largest jump between samples at a seam": round(float(jumps[:, 0].max()), 4),
        "largest jump inside chunks": round(float(np.max(inside)), 4),
        "seams that jump more than the sound around them": int(clicks.sum()),
    }


def _share_of(
    items: list[Any], config: RobustnessConfig, stage: str, ledger: Ledger, voice: str, name: Any
) -> Iterator[Any]:
    """What this shard has still to do, with progress."""
    from tqdm import tqdm

    number, count = config.part
    todo = [item for item in items[number::count] if (stage, voice, name(item)) not in ledger.rows]
    yield from tqdm(todo, desc=stage, unit="utterance")


def _judged(said: Speech, judge: FaultJudge) -> dict[str, Any]:
    judged: dict[str, None] = {}
    for sentence in said.sentences:  # the judge is slow on long texts
        first, last = (round(sec * said.sample_rate) for sec in (sentence.start_sec, sentence.end_sec))
        samples, rate = said.samples[first:last], said.sample_rate
        found = judge.faults(samples, rate, sentence.spoken)
        if found:
            # A word that is only pronounced otherwise than in the judge's dictionary has been said.
            own = {word.word.lower(): [phone.phone for phone in word.phones] for word in sentence.words}
            also = judge.faults(samples, rate, sentence.spoken, own)
            found = tuple(kind for kind in found if kind in also)
        judged |= dict.fromkeys(found)
    return {
        "status": said.status,
        "duration_sec": round(said.duration_sec, 3),
        "ran_away": said.duration_sec > duration_budget_sec(said.spoken_text),
        "faults": [fault.kind for sentence in said.sentences for fault in sentence.faults],
        "num_retries": said.report.num_retries,
        "judged": list(judged),
    }


def _keep(path: Path, said: Speech) -> None:
    if not len(said.samples):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, said.samples, said.sample_rate)


def _largest_jump(samples: np.ndarray) -> float:
    return float(np.abs(np.diff(samples)).max(initial=0.0))


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6
