"""Raw corpora -> levelled audio, mel features, pronunciations: everything the training recipes read.

    python -m pocket.prepare data=DATA_FOLDER work=runs/pocket

Layout of the work folder: ``corpora/`` (unpacked), ``lexicon.json``, ``sentences.txt`` and
``speech/<name>/{manifest.jsonl, audio/, mel/, pitch/}``, one folder per shard. Steps that are done are skipped.
"""

from __future__ import annotations

import multiprocessing
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pocket.flite import SyntheticConfig, read_aloud, refine_with_context
from voicegraft.audio.io import read_audio
from voicegraft.audio.level import trim_silence
from voicegraft.audio.mel import MelConfig
from voicegraft.core.files import write_text
from voicegraft.core.runtime import single_thread
from voicegraft.data.corpora import book_paragraphs, dialogues, readable_sentences, unpack, words_key
from voicegraft.data.lexicon import Lexicon
from voicegraft.data.manifest import Utterance, read_corpus, read_manifest
from voicegraft.data.recordings import add_features, write_speech
from voicegraft.data.splits import Splits
from voicegraft.recipes.command import recipe_config
from voicegraft.teachers.flite import flite_lexicon
from voicegraft.text.units import words_of


@dataclass(frozen=True)
class PreparePocketConfig:
    data: str = "data"  # folder with the raw corpora
    work: str = "runs/pocket"  # folder that receives everything
    recordings: tuple[str, ...] = ("kathleen", "ljspeech-part")  # corpora with manifest.jsonl: the human voices
    never_say: tuple[str, ...] = ("prompts/harvard_001-360.txt",)  # evaluation prompts, kept out of all training
    dictionary: str = (
        "cmudict/cmudict.dict"  # its words are pronounced too, as many a user's word is in no book; "": none
    )
    dialogue_share: float = 0.25  # of the sentences to synthesise, the rest comes from books
    num_workers: int = 2  # processes
    shard_size: int = 1000  # synthetic utterances per shard
    mel: MelConfig = field(default_factory=MelConfig)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)


def main(argv: list[str] | None = None) -> None:
    prepare_pocket(recipe_config(PreparePocketConfig, __doc__, argv))


def prepare_pocket(config: PreparePocketConfig) -> None:
    data, work = Path(config.data), Path(config.work)
    corpora = [*config.recordings, "books-pd", "sgd-dialogues", *Path(config.dictionary).parts[:1]]
    unpack(data, work / "corpora", corpora)
    recordings = {name: read_corpus(work / "corpora" / name) for name in config.recordings}
    sentences = choose_sentences(config, data, work, recordings)
    more = dictionary_words(work / "corpora" / config.dictionary) if config.dictionary else []
    lexicon = base_lexicon(work, [*sentences, *(u.text for rows in recordings.values() for u in rows), *more])
    synthesise(config, work, sentences[: config.synthetic.num_utterances], lexicon)
    refined = work / "lexicon.json"
    if not refined.is_file():
        spoken = (
            (u.text, u.units) for folder in sorted((work / "speech").glob("flite-*")) for u in read_manifest(folder)
        )
        refine_with_context(lexicon, spoken).save(refined)
    for name, utterances in recordings.items():
        ingest_recordings(config, work, name, utterances)
    add_features(work, config.mel, config.num_workers)


def choose_sentences(
    config: PreparePocketConfig, data: Path, work: Path, recordings: dict[str, list[Utterance]]
) -> list[str]:
    """Readable sentences in a random order, the ones to synthesise first; nothing that an evaluation will say."""
    path = work / "sentences.txt"
    if path.is_file():
        return path.read_text().splitlines()
    forbidden = {words_key(u.text) for rows in recordings.values() for u in rows if u.split != "train"}
    for name in config.never_say:
        forbidden |= {words_key(line) for line in (data / name).read_text().splitlines()}
    books = _distinct(readable_sentences(book_paragraphs(work / "corpora" / "books-pd")), forbidden)
    turns = (text for d in dialogues(work / "corpora" / "sgd-dialogues" / "train.jsonl") for _, text in d)
    spoken = _distinct(readable_sentences(turns), forbidden)
    draw = random.Random(config.synthetic.seed)
    draw.shuffle(books)
    draw.shuffle(spoken)
    num_spoken = round(config.synthetic.num_utterances * config.dialogue_share)
    num_books = config.synthetic.num_utterances - num_spoken
    first = books[:num_books] + spoken[:num_spoken]
    rest = books[num_books:] + spoken[num_spoken:]
    draw.shuffle(first)
    draw.shuffle(rest)
    write_text(path, "\n".join(first + rest))
    return first + rest


def _distinct(sentences: Iterable[str], forbidden: set[str]) -> list[str]:
    return list({key: s for s in sentences if (key := words_key(s)) not in forbidden}.values())


def dictionary_words(path: Path) -> list[str]:
    """The words that a pronouncing dictionary lists, one entry a line: letters and inner apostrophes, two or more."""
    first = (line.split(maxsplit=1)[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    return sorted({word for word in first if re.fullmatch(r"[a-z]+(?:'[a-z]+)*", word) and len(word) > 1})


def base_lexicon(work: Path, texts: Iterable[str]) -> Lexicon:
    path = work / "lexicon-isolated.json"
    if not path.is_file():
        flite_lexicon(word.key for text in texts for word in words_of(text)).save(path)
    return Lexicon.load(path)


def synthesise(config: PreparePocketConfig, work: Path, sentences: list[str], lexicon: Lexicon) -> None:
    rule = Splits.over(sentences)
    starts = range(0, len(sentences), config.shard_size)
    jobs = [
        (work / "speech" / f"flite-{n:03d}", start, sentences[start : start + config.shard_size])
        for n, start in enumerate(starts)
    ]
    jobs = [job for job in jobs if not (job[0] / "mel" / "index.json").is_file()]
    if jobs:
        with multiprocessing.get_context("spawn").Pool(config.num_workers, initializer=single_thread) as pool:
            make = partial(_synthesise_shard, config, lexicon, rule)
            for _ in tqdm(pool.imap_unordered(make, jobs), total=len(jobs), desc="synthetic speech", unit="shard"):
                pass


def _synthesise_shard(
    config: PreparePocketConfig, lexicon: Lexicon, rule: Splits, job: tuple[Path, int, list[str]]
) -> None:
    folder, first, sentences = job
    read = (
        read_aloud(first + i, text, rule(text), lexicon, config.synthetic, config.mel.sample_rate)
        for i, text in enumerate(sentences)
    )
    write_speech(folder, (pair for pair in read if pair is not None), config.mel)


def ingest_recordings(config: PreparePocketConfig, work: Path, name: str, utterances: list[Utterance]) -> None:
    folder = work / "speech" / name
    if (folder / "mel" / "index.json").is_file():
        return

    def read() -> Iterator[tuple[Utterance, np.ndarray]]:
        for u in tqdm(utterances, desc=name, unit="clip"):
            samples = read_audio(work / "corpora" / name / u.audio, config.mel.sample_rate).samples
            samples = trim_silence(samples, config.mel.sample_rate)
            split = "train" if u.split == "train" else "val"
            seconds = len(samples) / config.mel.sample_rate
            # Acronyms are read letter by letter: the lexicon looks up words, so give it letters.
            text = re.sub(r"\b([A-Z])\.(?=[A-Z]\.|\s|$)", r"\1 ", u.text) if "." in u.text[:-1] else u.text
            yield replace(u, audio="", text=text, split=split, duration_sec=seconds), samples

    write_speech(folder, read(), config.mel)


if __name__ == "__main__":
    main()
