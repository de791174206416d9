"""Texts -> clean speech with its text, voice and times, read by a teacher; `voicegraft prepare` reads what it writes.

    voicegraft synthesize texts=lines.txt out=runs/said hours=2 voices=[af_heart,am_michael]
    voicegraft synthesize texts=lines.txt out=runs/many hours=8 mixtures=100 workers=4 check=whisper
    voicegraft synthesize texts=lines.txt out=runs/said hours=2 --plan       # clips, time and disk, and stops

Teachers are Kokoro (voicegraft parts get kokoro; pip install voicegraft[teacher]), flite, and a voicegraft pack. Stop it with
Ctrl-C; the same command goes on, and with more hours the corpus grows. The same seed makes the same corpus, by any number of
workers. Texts and voices that evaluations keep for themselves are not said. OUT/README.md tells what was made and how.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from voicegraft.core.config import to_dict
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.core.ledger import differences
from voicegraft.core.text_input import file_lines
from voicegraft.data.checks import Limits
from voicegraft.evaluation.speech.reserved import TEST_VOICES, ReservedTexts
from voicegraft.recipes.command import recipe_main
from voicegraft.recipes.synthesis_clips import BLOCK, ClipMaker, Row, distinct
from voicegraft.recipes.synthesis_report import command_of, counts_of, hours_of, in_short, show_plan, write_card
from voicegraft.recipes.tokenize_processes import in_processes
from voicegraft.teachers.base import Teacher
from voicegraft.teachers.choice import open_teacher
from voicegraft.teachers.kokoro import Mixture, draw_mixtures

FORMAT = 1  # raised when clips of an older program would differ from what this one makes
MIXTURES = "mixtures.json"  # in the folder: voice -> the voices it is mixed of, with their weights
Opener = Callable[[str, Path | None, Mapping[str, Mixture]], Teacher]


@dataclass(frozen=True)
class MixtureConfig:
    count: int = 0  # new speakers, each a random mixture of Kokoro's style vectors, named mix-0001 ...
    parts: int = 3  # voices of one accent in each
    concentration: float = 0.6  # of the Dirichlet distribution of their weights; the lower, the nearer to one voice
    file: Path | None = None  # mixtures.json of another corpus instead: the same speakers again

    def __post_init__(self) -> None:
        if self.count < 0 or self.parts < 1 or not self.concentration > 0:
            raise ValueError("expected a count of at least 0, at least one part and a concentration above 0")
        if self.count and self.file:
            raise ValueError("expected mixtures by count or of a file, got both")


@dataclass(frozen=True)
class SynthesizeConfig:
    texts: Path  # what is said, one utterance a line, written as people write; UTF-8, may be gzipped (.gz)
    out: Path  # receives manifest.jsonl, audio/ (FLAC, 24 kHz), rejected.jsonl and README.md
    teacher: Literal["kokoro", "flite", "pack"] = "kokoro"
    part: Path | None = None  # folder of Kokoro or of the pack; empty: where parts are kept; the pack that ships
    voices: tuple[
        str, ...
    ] = ()  # all equally often; [all]: all but those of tests; empty: the mixtures, without any all
    mixtures: MixtureConfig = field(default_factory=MixtureConfig)
    hours: float = 1.0  # of speech that is kept
    readings: int = 1  # how often each text is said at most, each time in a voice of its own
    slowest: float = 0.95  # speed, drawn uniformly for each clip
    fastest: float = 1.08  # speed
    seed: int = 0
    workers: int = 2  # processes, each on one thread
    check: str = "none"  # who hears each clip: none, pocketsphinx, whisper or whisper:FOLDER
    max_word_errors: float = 0.2  # share of the words heard otherwise, above which a clip is rejected
    never_say: tuple[Path, ...] = ()  # more files of texts that evaluations say, one a line
    allow_test_voices: bool = (
        False  # for test material: says the texts, in the voices, that evaluations keep for themselves
    )
    plan: bool = False  # only says what would be done (--plan)
    limits: Limits = field(default_factory=lambda: Limits(min_letters_per_sec=4.0))

    def __post_init__(self) -> None:
        if not 0 < self.slowest <= self.fastest:
            raise ValueError(f"expected speeds from slowest to fastest, got {self.slowest:g} and {self.fastest:g}")
        if not self.hours > 0 or self.readings < 1 or self.workers < 1:
            raise ValueError("expected hours above 0, and at least one reading and one worker")


def synthesize(config: SynthesizeConfig, opener: Opener = open_teacher) -> None:
    """Makes what is not yet there, then writes the manifest; ``opener`` must be importable by name.

    Raises:
        VoicegraftError: no texts, no teacher, a voice that it lacks or that is reserved, another corpus in the folder, or
            nothing that can be kept.
    """
    reserved = ReservedTexts([text for path in config.never_say for text in file_lines(path)])
    lines = distinct(file_lines(config.texts), config.seed)
    unused = set() if config.allow_test_voices else {text for text in lines if text in reserved}
    texts = tuple(text for text in lines if text not in unused)
    if not texts:
        all_reserved = "; evaluations say all of its texts" if lines else ""
        raise VoicegraftError(f"{config.texts} holds nothing to say: expected one utterance a line{all_reserved}")
    mixtures = _mixtures(config)
    open_it = partial(opener, config.teacher, config.part, mixtures)
    teacher = open_it()
    voices = _voices(config, teacher, tuple(mixtures))
    if not config.allow_test_voices:
        _refuse_test_voices(voices, mixtures)
    maker = ClipMaker(
        config.out,
        texts,
        len(texts) * config.readings,
        voices,
        mixtures,
        (config.slowest, config.fastest),
        config.seed,
        config.limits,
        config.max_word_errors,
        open_it,
        config.check,
    )
    if config.plan:
        show_plan(maker, config.hours, config.workers)
        return
    _begin(config, maker, teacher.name)
    (config.out / "audio").mkdir(parents=True, exist_ok=True)
    rows = _make(maker, config)
    _publish(config, maker, [*rows, *({"text": text, "reason": "reserved"} for text in lines if text in unused)])


main = recipe_main(synthesize, __doc__, prog="voicegraft synthesize")


def _mixtures(config: SynthesizeConfig) -> Mapping[str, Mixture]:
    wanted = config.mixtures
    if wanted.file is not None:
        try:
            read = json.loads(wanted.file.read_text(encoding="utf-8"))
            return {str(name): {str(v): float(x) for v, x in parts.items()} for name, parts in read.items()}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise VoicegraftError(f"cannot read mixtures of {wanted.file}: {error}; expected {MIXTURES}") from error
    if not wanted.count:
        return {}
    if config.teacher != "kokoro":
        raise VoicegraftError(f"voices can be mixed of Kokoro only, not of {config.teacher}; leave mixtures out")
    teacher = open_teacher(config.teacher, config.part, {})
    own = [voice for voice in teacher.voices if voice not in TEST_VOICES]
    return draw_mixtures(own, wanted.count, config.seed, wanted.parts, wanted.concentration)


def _voices(config: SynthesizeConfig, teacher: Teacher, mixed: tuple[str, ...]) -> tuple[str, ...]:
    """Who speaks, in the order in which it was asked for."""
    own = [voice for voice in teacher.voices if voice not in mixed]
    everyone = config.voices == ("all",) or (not config.voices and not mixed)
    asked = [voice for voice in own if voice not in TEST_VOICES] if everyone else list(config.voices)
    if unknown := [voice for voice in asked if voice not in own]:
        raise VoicegraftError(f"{teacher.name} has no voice {', '.join(unknown)}; its voices are {', '.join(own)}")
    return tuple(dict.fromkeys([*asked, *mixed]))


def _refuse_test_voices(voices: tuple[str, ...], mixtures: Mapping[str, Mixture]) -> None:
    used = {*voices, *(voice for mixture in mixtures.values() for voice in mixture)}
    if taken := sorted(used & {*TEST_VOICES}):
        raise VoicegraftError(
            f"{', '.join(taken)} {'are' if len(taken) > 1 else 'is'} kept for tests and never trained on; choose other voices, "
            "or make test material with --allow-test-voices"
        )


def _begin(config: SynthesizeConfig, maker: ClipMaker, teacher: str) -> None:
    """Notes what is about to be done; refuses a folder that holds another corpus, or something else."""
    job: dict[str, Any] = {
        "format": FORMAT,
        "texts": hashlib.sha256("\n".join(sorted(maker.texts)).encode()).hexdigest()[:16],
        "teacher": teacher,
        "voices": list(maker.voices),
        "mixtures": to_dict(maker.mixtures),
        "speeds": list(maker.speeds),
        "seed": config.seed,
        "check": config.check,
        "max_word_errors": config.max_word_errors,
        "limits": to_dict(config.limits),
    }
    path = config.out / "job.json"
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = ["the texts changed"] * (before["texts"] != job["texts"])
        if changed := [*changed, *differences(before | {"texts": job["texts"]}, job)]:
            raise VoicegraftError(
                f"{config.out} holds speech made otherwise ({'; '.join(changed)}): choose another out, or delete the folder"
            )
    elif config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
        raise VoicegraftError(f"{config.out} is there and holds something else: choose another out")
    else:
        write_text(path, json.dumps(job, indent=2))
    if maker.mixtures:
        write_text(config.out / MIXTURES, json.dumps(to_dict(maker.mixtures), indent=2))


def _make(maker: ClipMaker, config: SynthesizeConfig) -> list[Row]:
    """Rows of the shortest run of blocks from the first on that holds the hours: the same by any number of workers."""
    rows: list[Row] = []
    layout = "{desc}: {percentage:3.0f}%|{bar}| {n:.2f}/{total:.2f} h [{elapsed}<{remaining}{postfix}]"
    left = [block for block in maker.blocks if not maker.rows_of(block).is_file()]
    hours, hours_new, started = 0.0, 0.0, time.monotonic()
    with (
        closing(in_processes(maker, left, config.workers)) as blocks_done,
        tqdm(total=config.hours, desc="speech", bar_format=layout) as bar,
    ):
        for block in maker.blocks:
            is_new = not maker.rows_of(block).is_file()
            while not maker.rows_of(block).is_file():
                next(blocks_done)
            made = [json.loads(line) for line in maker.rows_of(block).read_text(encoding="utf-8").splitlines()]
            rows += made
            hours += hours_of(made)
            hours_new += hours_of(made) * is_new
            bar.update(min(hours, config.hours) - bar.n)
            bar.set_postfix_str(
                f"{hours_new * 3600 / (time.monotonic() - started):.1f} h/h, {sum('reason' in row for row in rows)} rejected"
            )
            if hours >= config.hours:
                break
    return rows


def _publish(config: SynthesizeConfig, maker: ClipMaker, rows: list[Row]) -> None:
    """Writes the manifest and what goes with it, and removes what is in neither: clips beyond the hours, halves of a kill."""
    kept = [row for row in rows if "audio" in row]
    rejected = [row for row in rows if "reason" in row]
    write_text(config.out / "rejected.jsonl", _lines(rejected))
    if not kept:
        raise VoicegraftError(
            f"nothing could be kept ({', '.join(counts_of(rejected))}): see {config.out / 'rejected.jsonl'}"
        )
    command = command_of(config, "voicegraft synthesize")
    write_card(config.out, command, kept[0]["teacher"], kept[0]["licence"], kept, rejected)
    write_text(config.out / "manifest.jsonl", _lines(kept))
    num_blocks = -(-sum("id" in row for row in rows) // BLOCK)
    used = {maker.rows_of(block) for block in maker.blocks[:num_blocks]} | {config.out / row["audio"] for row in kept}
    for path in (*(config.out / "clips").iterdir(), *(config.out / "audio").iterdir()):
        if path not in used:
            path.unlink()
    print(in_short(kept, rejected))
    if hours_of(kept) < config.hours:
        print(
            f"the texts end before {config.hours:g} hours: give more of them, or set readings above {config.readings}"
        )
    print(f"{config.out}: manifest.jsonl, rejected.jsonl, README.md; now: voicegraft prepare {config.out} --out WORK")


def _lines(rows: list[Row]) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
