"""Raw texts -> sentences that can be read aloud, and how the words are pronounced.

    python -m pocket.prepare pocket/prepare_pocket data=DATA_FOLDER work=runs/pocket

Writes ``corpora/`` (unpacked), ``sentences.txt``, ``lexicon-isolated.json`` (flite says each word alone) and ``lexicon.json``
(as flite says them in sentences). Steps that are done are skipped.
"""

from __future__ import annotations

import multiprocessing
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tqdm import tqdm

from pocket.flite import SyntheticConfig, read_aloud, refine_with_context
from voicegraft.core.files import write_text
from voicegraft.core.runtime import single_thread
from voicegraft.data.corpora import book_paragraphs, dialogues, readable_sentences, unpack, words_key
from voicegraft.data.lexicon import Lexicon
from voicegraft.recipes.command import recipe_config
from voicegraft.teachers.flite import flite_lexicon
from voicegraft.text.units import words_of


@dataclass(frozen=True)
class PreparePocketConfig:
    data: str = "data"  # folder with the raw corpora
    work: str = "runs/pocket"  # folder that receives everything
    never_say: tuple[str, ...] = ("prompts/harvard_001-360.txt",)  # evaluation prompts, kept out of all training
    dictionary: str = (
        "cmudict/cmudict.dict"  # its words are pronounced too, as many a user's word is in no book; "": none
    )
    dialogue_share: float = 0.25  # of the sentences that flite reads, the rest comes from books
    num_workers: int = 2  # processes
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)


def main(argv: list[str] | None = None) -> None:
    prepare_pocket(recipe_config(PreparePocketConfig, __doc__, argv))


def prepare_pocket(config: PreparePocketConfig) -> None:
    data, work = Path(config.data), Path(config.work)
    unpack(data, work / "corpora", ["books-pd", "sgd-dialogues", *Path(config.dictionary).parts[:1]])
    sentences = choose_sentences(config, data, work)
    refined = work / "lexicon.json"
    if not refined.is_file():
        more = dictionary_words(work / "corpora" / config.dictionary) if config.dictionary else []
        lexicon = base_lexicon(work, [*sentences, *more])
        heard = listen(config, sentences[: config.synthetic.num_utterances], lexicon)
        refine_with_context(lexicon, heard).save(refined)


def choose_sentences(config: PreparePocketConfig, data: Path, work: Path) -> list[str]:
    """Readable sentences in a random order, those that flite reads first; nothing that an evaluation will say."""
    path = work / "sentences.txt"
    if path.is_file():
        return path.read_text().splitlines()
    forbidden = {words_key(line) for name in config.never_say for line in (data / name).read_text().splitlines()}
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


def listen(config: PreparePocketConfig, sentences: list[str], lexicon: Lexicon) -> list[tuple[str, tuple[str, ...]]]:
    """Sentences with the units that flite says for them."""
    hear = partial(_hear, config.synthetic, lexicon)
    with multiprocessing.get_context("spawn").Pool(config.num_workers, initializer=single_thread) as pool:
        heard = pool.imap(hear, enumerate(sentences), chunksize=50)
        pairs = tqdm(zip(sentences, heard, strict=True), total=len(sentences), desc="pronunciations", unit="sentence")
        return [(text, units) for text, units in pairs if units is not None]


def _hear(config: SyntheticConfig, lexicon: Lexicon, numbered: tuple[int, str]) -> tuple[str, ...] | None:
    return read_aloud(*numbered, lexicon, config)


if __name__ == "__main__":
    main()
