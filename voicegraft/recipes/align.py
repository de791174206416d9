"""When each unit of each recording is said: pronunciations, and forced alignment by a pack that speaks the language already.

    voicegraft recipe align work=runs/mine

A pack knows how words are pronounced (its expert spells) and what phones semantic tokens sound like (its monitor), so nothing
has to be trained and no phonemiser installed. Writes ``lexicon.json``, ``sentences.txt`` and ``alignments/round0/``, manifests
whose texts are in spoken form and whose units are timed. What is there is kept: shards that came later are aligned, words that
the lexicon lacks are added.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from voicegraft.audio.io import resampled
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.core.hub import resolve
from voicegraft.data.corpora import book_paragraphs, readable_sentences
from voicegraft.data.lexicon import Lexicon, read_dictionary
from voicegraft.data.manifest import Utterance, write_manifest
from voicegraft.data.prepared import DONE, Clip, PreparedSpeech
from voicegraft.inference.engine import sentence_tokens
from voicegraft.inference.pack import Pack, open_pack, pack_folder, part_of, read_header, shipped_packs
from voicegraft.recipes.command import recipe_main
from voicegraft.text.frontend import Frontend, spoken_text
from voicegraft.text.units import BOUNDARIES, START, UNIT_CLASS, phones_by_word, words_of
from voicegraft.tokenizers.forced_alignment import force_align
from voicegraft.tokenizers.loading import open_semantic

WORDS_AT_ONCE = 8  # as in the lists that experts learn to pronounce from


@dataclass(frozen=True)
class AlignConfig:
    work: str = "runs/mine"
    teacher: str = ""  # pack that pronounces and aligns; empty: the pocket pack (English)
    dictionary: str = ""  # pronouncing dictionary in CMUdict's format; the pack pronounces what it lacks
    text: str = ""  # file or folder of plain text, whose sentences are pronounced too: the more, the better
    num_sentences: int = 40_000  # of the text, at most
    num_words: int = 4_000  # of the text that the pack pronounces, the most frequent first


def teacher_folder(teacher: str) -> Path:
    """A pack by folder, Hub name or the name of one that comes with the package; empty: the pocket pack."""
    return resolve(teacher) if teacher and teacher not in shipped_packs() else pack_folder(teacher or None)


def lender(teacher: str) -> str:
    """The pack that comes with the package and has its parts: itself, or the one that it shares with."""
    folder = teacher_folder(teacher)
    return read_header(folder).shares or folder.name


def teacher_part(teacher: str, name: str) -> Path:
    """Where a part of it lies, if it has it."""
    folder = teacher_folder(teacher)
    return part_of(folder, read_header(folder), name)


def align(config: AlignConfig) -> None:
    work = Path(config.work)
    out = work / "alignments" / "round0"
    speech = PreparedSpeech(work)
    speech.clips = [clip for clip in speech.clips if not (out / clip.folder.name / "manifest.jsonl").is_file()]
    if not speech.clips:
        if not (out / DONE).is_file():  # stopped just before the end
            write_text(out / DONE, "all shards aligned")
        return
    pack = open_pack(teacher_folder(config.teacher))
    if pack.monitor is None or pack.lm.speech_embedding.config.layout != "guided":
        raise VoicegraftError(
            f"{pack.folder} has no monitor or does not spell, so it cannot align; use the pocket pack"
        )
    speech.clips = [
        replace(clip, utterance=replace(clip.utterance, text=spoken_text(pack.frontend, clip.utterance.text)))
        for clip in tqdm(speech.clips, desc="spoken forms", unit="text", mininterval=2)
    ]
    said = [clip.utterance.text for clip in speech.clips if clip.utterance.split == "train"]
    read = _readable(Path(config.text), config.num_sentences, pack.frontend) if config.text else []
    known = work / "lexicon.json"
    lexicon = Lexicon.load(known) if known.is_file() else Lexicon({})
    if config.dictionary:
        lexicon.entries.update(read_dictionary(Path(config.dictionary)))
    words = {word.key for clip in speech.clips for word in words_of(clip.utterance.text)}
    often = Counter(word.key for text in read for word in words_of(text)).most_common()
    words |= {word for word, _ in [pair for pair in often if pair[0] not in lexicon][: config.num_words]}
    lexicon.entries.update(pronounce(pack, sorted(words - lexicon.entries.keys())))
    lexicon.save(known)
    sentences = work / "sentences.txt"
    before = sentences.read_text(encoding="utf-8").splitlines() if sentences.is_file() else []
    readable = (text for text in read if lexicon.units(text))
    write_text(sentences, "\n".join(dict.fromkeys([*before, *said, *readable])))
    tokenizer = open_semantic(pack.part("semantic"))
    recognizer = pack.monitor
    if recognizer.config.semantic != tokenizer.spec.fingerprint:
        raise VoicegraftError(
            f"{pack.folder}: the monitor reads other semantic tokens than the pack's tokenizer writes"
        )

    @torch.inference_mode()
    def log_probs(clip: Clip) -> np.ndarray:
        samples = resampled(speech.samples(clip), speech.rate(clip), tokenizer.spec.sample_rate)
        codes = tokenizer.encode(torch.from_numpy(samples)[None])[0, 0]
        c = recognizer.config
        padded = np.pad(codes.numpy(), (c.before, c.after), constant_values=recognizer.nothing)
        return torch.from_numpy(recognizer.logits(padded)).log_softmax(-1).numpy()

    write_alignments(speech.clips, lexicon.units, log_probs, tokenizer.spec.frame_rate, out)


def _readable(path: Path, count: int, frontend: Frontend) -> list[str]:
    """Sentences of a text as they are said, in a random order.

    Raises VoicegraftError where there is no such text.
    """
    if not path.exists():
        raise VoicegraftError(f"expected plain text at {path} (align.text), found nothing; check the path")
    found = list(readable_sentences(book_paragraphs(path)))
    random.Random(0).shuffle(found)
    return [spoken_text(frontend, sentence) for sentence in found[:count]]


def pronounce(pack: Pack, words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Word -> phones, as the pack's speech expert spells them."""
    entries: dict[str, tuple[str, ...]] = {}
    for start in tqdm(range(0, len(words), WORDS_AT_ONCE), desc="pronunciations", unit="list", mininterval=2):
        some = words[start : start + WORDS_AT_ONCE]
        text = " ".join(some).capitalize() + "."
        units = sentence_tokens(pack.lm, text, pack.acoustic.config.voices[0], pack.header.options).spell()
        entries.update(zip(some, phones_by_word(units), strict=True))
    return entries


def write_alignments(
    clips: Iterable[Clip],
    units_of: Callable[[str], list[str] | None],
    log_probs_of: Callable[[Clip], np.ndarray],
    frame_rate: float,
    out: Path,
) -> None:
    """Writes manifests with timed units, shard by shard; an utterance that cannot be aligned keeps none.

    Args:
        units_of: text -> units, or None where a word is not known.
        log_probs_of: log-probabilities of the phone classes ``[T, C]`` at ``frame_rate`` Hz.
    """
    counts: Counter[bool] = Counter()

    def timed(clip: Clip) -> Utterance:
        u = clip.utterance
        units = units_of(u.text)
        frames = None
        if units is not None:
            skippable = [unit == START or unit in BOUNDARIES for unit in units]
            frames = force_align(log_probs_of(clip), [UNIT_CLASS[unit] for unit in units], skippable)
        counts[frames is not None] += 1
        if units is None or frames is None:
            return replace(u, units=(), unit_ends_sec=())
        ends = tuple(round(float(e) / frame_rate, 3) for e in np.cumsum(frames))
        return replace(u, units=tuple(units), unit_ends_sec=ends)

    bar = tqdm(list(clips), desc="align recordings", unit="clip", mininterval=5)
    for folder, some in groupby(bar, key=lambda clip: clip.folder):
        write_manifest(out / folder.name, [timed(clip) for clip in some])
    write_text(out / DONE, f"{counts[True]} of {sum(counts.values())} aligned")
    if not counts[True]:
        raise VoicegraftError(
            f"none of the {sum(counts.values())} recordings could be aligned with its text: is it theirs?"
        )


main = recipe_main(align, __doc__)


if __name__ == "__main__":
    main()
