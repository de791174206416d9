"""Readers of the public corpora that the pocket recipe trains on, and what must be kept out of training."""

from __future__ import annotations

import json
import lzma
import re
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Message
from voicegraft.core.text_input import read_file
from voicegraft.data.splits import hash_share

# A sentence that can be read aloud as it stands: words, plain punctuation, no digits, nothing to expand.
_PLAIN = re.compile(r"[A-Z][A-Za-z',;:? !.\-]*[.?!]")
_ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Dr|St|Messrs|Esq|vs|etc|[A-Z])\.")
_TYPEWRITER = {
    0x2019: "'",
    0x2018: "'",
    0x201C: '"',
    0x201D: '"',
    0x2014: "--",
    0x2013: "-",
    0x2026: "...",
    0xFEFF: None,
}
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+")


def unpack(data: Path, into: Path, names: Iterable[str]) -> None:
    """Unpacks ``data/NAME.tar`` or ``data/text/NAME.tar.xz`` to ``into/NAME`` unless the folder is there already.

    The archive holds one folder, whatever it is called there. A corpus that is already a folder in ``data`` is linked, not
    copied. Members that would leave the folder are refused (tar "data" filter).
    """
    into.mkdir(parents=True, exist_ok=True)
    for name in names:
        target = into / name
        if target.exists():
            continue
        if (data / name).is_dir():
            target.symlink_to((data / name).resolve())
            continue
        archives = [p for p in (data / f"{name}.tar", data / "text" / f"{name}.tar.xz") if p.is_file()]
        if not archives:
            raise VoicegraftError(
                f"corpus {name!r} not found in {data}: expected {name}/, {name}.tar or text/{name}.tar.xz; "
                "docs/data.md says where the public copies are"
            )
        draft = into / f".{name}.partial"  # half a corpus must not bear the name of a whole one
        shutil.rmtree(draft, ignore_errors=True)
        try:
            with tarfile.open(archives[0]) as archive:
                archive.extractall(draft, filter="data")
            folders = [path for path in draft.iterdir() if path.is_dir()]
            (folders[0] if len(folders) == 1 else draft / name).rename(target)
        except (OSError, EOFError, tarfile.TarError, lzma.LZMAError) as error:
            raise VoicegraftError(f"cannot unpack a folder {name} from {archives[0]}: {error}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def book_paragraphs(place: Path) -> Iterator[str]:
    """Paragraphs of a text file, or of all ``*.txt`` in a folder, line breaks folded, emphasis marks removed."""
    for path in sorted(place.glob("*.txt")) if place.is_dir() else [place]:
        if path.name == "SOURCE.txt":
            continue
        for block in re.split(r"\n\s*\n", read_file(path)):
            text = " ".join(block.replace("_", "").split())
            if text:
                yield text


def dialogues(path: Path) -> Iterator[list[tuple[str, str]]]:
    """Dialogues of the Schema-Guided Dialogue corpus as lists of (speaker: user or system, text)."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield [(turn["speaker"], turn["text"]) for turn in json.loads(line)["turns"]]


def readable_sentences(texts: Iterable[str], min_words: int = 4, max_words: int = 14) -> Iterator[str]:
    """Sentences that can be read aloud as they stand, within the given length, in order of appearance."""
    for text in texts:
        text = text.translate({0x2019: "'", 0x2018: "'", 0x201C: None, 0x201D: None, 0x22: None})
        text = text.replace("—", ", ").replace("--", ", ")
        for sentence in re.split(r"(?<=[.?!])\s+", text):
            sentence = " ".join(sentence.split())
            if (
                _PLAIN.fullmatch(sentence)
                and min_words <= len(sentence.split()) <= max_words
                and not _ABBREVIATION.search(sentence)
            ):
                yield sentence


def words_key(text: str) -> str:
    """Text reduced to its words: two texts with the same key say the same."""
    return " ".join(re.findall(r"[a-z']+", text.lower()))


def typewritten(text: str) -> str:
    """Text with typewriter quotes, dashes and single spaces, so that few tokens are spent on typography."""
    return " ".join(text.translate(_TYPEWRITER).split())


def book_pieces(
    folder: Path, forbidden: frozenset[str] = frozenset(), piece_chars: int = 8000, held_out: float = 0.01
) -> tuple[list[list[str]], list[list[str]]]:
    """Books as contiguous pieces, each a list of paragraphs: (to train on, held out).

    Args:
        forbidden: `words_key` of sentences that must not be trained on; paragraphs that hold one are dropped.
        piece_chars: length from which a piece ends with the paragraph.
        held_out: share of pieces to hold out, chosen by book name and piece number.
    """
    train: list[list[str]] = []
    test: list[list[str]] = []
    for path in sorted(folder.glob("*.txt")):
        for number, piece in enumerate(_pieces(map(typewritten, book_paragraphs(path)), piece_chars)):
            if hash_share(f"{path.name} {number}") < held_out:
                test.append(piece)
            else:
                train.append([p for p in piece if not says_any(p, forbidden)])
    return train, test


def _pieces(paragraphs: Iterable[str], chars: int) -> Iterator[list[str]]:
    piece: list[str] = []
    for paragraph in paragraphs:
        if paragraph:
            piece.append(paragraph)
        if sum(map(len, piece)) >= chars:
            yield piece
            piece = []
    if piece:
        yield piece


def chats(path: Path, forbidden: frozenset[str] = frozenset()) -> Iterator[list[Message]]:
    """Dialogues of the Schema-Guided Dialogue corpus as chats, without those with a forbidden sentence."""
    for dialogue in dialogues(path):
        chat = [
            Message("user" if speaker == "user" else "assistant", (typewritten(text),)) for speaker, text in dialogue
        ]
        if not any(says_any(message.text, forbidden) for message in chat):
            yield chat


def says_any(text: str, forbidden: frozenset[str]) -> bool:
    """Whether one of the text's sentences has a forbidden `words_key`."""
    return bool(forbidden) and any(words_key(s) in forbidden for s in _SENTENCE_END.split(text))
