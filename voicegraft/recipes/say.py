"""What a pack says of many sentences, in semantic tokens alone: a teacher's own speech, for another expert to learn from.

    voicegraft recipe say work=runs/mine hours=4

Sound costs far more than its tokens, and a pack says many sentences at once in a fraction of their time. The sentences are
those of ``work/sentences.txt`` that no recording holds back. Writes shards ``said/`` and their tokens; shards that are there
are kept, so the same command goes on after an interruption. ``train_speech`` finds them beside the recordings.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from voicegraft.core.errors import VoicegraftError
from voicegraft.data.manifest import Utterance, write_manifest
from voicegraft.data.prepared import SAID, PreparedSpeech, newest_alignments
from voicegraft.data.shards import write_ragged
from voicegraft.data.speech_sequences import sentences_of
from voicegraft.inference.engine import Engine, SentenceTokens, sentence_tokens
from voicegraft.inference.pack import Pack, open_pack
from voicegraft.recipes.align import teacher_folder
from voicegraft.recipes.command import recipe_main
from voicegraft.text.english.heteronyms import pronunciations
from voicegraft.text.units import words_of

SHARD_SEC = 1800


@dataclass(frozen=True)
class SayConfig:
    work: str = "runs/mine"  # the work folder, with sentences.txt
    teacher: str = ""  # pack that speaks; empty: the pocket pack
    hours: float = 4.0  # of speech, in shards of half an hour
    least_words: int = 3  # of a sentence
    most_words: int = 24
    at_once: int = 32  # sentences
    seed: int = 0


def say(config: SayConfig) -> None:
    """Raises VoicegraftError: the pack does not say units, or the sentences do not suffice."""
    work, pack = Path(config.work), open_pack(teacher_folder(config.teacher))
    if pack.lm.speech_embedding.config.layout != "guided":
        raise VoicegraftError(f"{pack.folder} speaks in the plain layout and cannot teach units; use the pocket pack")
    lines = (work / "sentences.txt").read_text(encoding="utf-8").splitlines()
    texts = sentences_of("train", lines, PreparedSpeech(work, aligned=newest_alignments(work)))
    texts = [text for text in texts if config.least_words <= len(words_of(text)) <= config.most_words]
    random.Random(config.seed).shuffle(texts)
    count = max(1, round(config.hours * 3600 / SHARD_SEC))
    for number in range(count):
        name = f"said-{number:03d}"
        if (work / SAID / name / "manifest.jsonl").is_file():
            continue
        rows, codes, seconds = [], [], 0.0
        with tqdm(total=SHARD_SEC, desc=name, unit="s", mininterval=5) as bar:
            for utterance, said in utterances(pack, texts[number::count], config, name):
                rows.append(utterance)
                codes.append(said)
                bar.update(min(utterance.duration_sec, SHARD_SEC - seconds))
                seconds += utterance.duration_sec
                if seconds >= SHARD_SEC:
                    break
        if seconds < SHARD_SEC:
            raise VoicegraftError(
                f"{len(texts[number::count])} sentences make {seconds:.0f} s of speech, a shard needs {SHARD_SEC}: ask for "
                "fewer hours, or give align more text"
            )
        write_ragged(work / "tokens" / "semantic" / name, codes, "int16", key=pack.lm.speech_embedding.config.semantic)
        write_manifest(work / SAID / name, rows)


def utterances(
    pack: Pack, texts: Iterable[str], config: SayConfig, name: str
) -> Iterator[tuple[Utterance, np.ndarray]]:
    """Each sentence in one of the pack's voices, with its codes ``[T, 1]``; those that end first come first."""
    engine, waiting = Engine(pack.lm), enumerate(texts)
    going: list[tuple[int, SentenceTokens]] = []
    while True:
        while len(going) < config.at_once and (new := next(waiting, None)) is not None:
            number, text = new
            draw = np.random.default_rng([config.seed, number])
            voice = str(draw.choice(pack.lm.vocabulary.voices))
            going.append(
                (
                    number,
                    sentence_tokens(
                        pack.lm,
                        text,
                        voice,
                        pack.header.options,
                        draw,
                        engine,
                        pronunciations=pronunciations(text),
                    ),
                )
            )
            engine.join(going[-1][1])
        if not going:
            return
        engine.step()
        for number, tokens in going:
            tokens.take()
            if tokens.is_over:
                engine.leave(tokens)
                if not tokens.machine.cut:
                    yield _utterance(f"{name}-{number:05d}", tokens, pack.token_sec)
        going = [each for each in going if not each[1].is_over]


def _utterance(name: str, tokens: SentenceTokens, token_sec: float) -> tuple[Utterance, np.ndarray]:
    machine = tokens.machine
    ends = np.cumsum([unit.num_frames for unit in machine.spoken]) * token_sec
    utterance = Utterance(
        id=name,
        audio="",
        text=machine.sentence.text,
        speaker=machine.voice,
        split="train",
        duration_sec=len(machine.codes) * token_sec,
        units=tuple(unit.unit for unit in machine.spoken),
        unit_ends_sec=tuple(round(float(end), 4) for end in ends),
        synthetic=True,
    )
    return utterance, np.array(machine.codes)[:, None]


main = recipe_main(say, __doc__)


if __name__ == "__main__":
    main()
