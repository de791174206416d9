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

# A sentence that can be read aloud as it stands: words, plain punctuation, no digits, nothing to expand.
_PLAIN = re.compile(r"[A-Z][A-Za-z',;:? !.\-]*[.?!]")
_ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Dr|St|Messrs|Esq|vs|etc|[A-Z])\.")


def unpack(data: Path, into: Path, names: Iterable[str]) -> None:
    """Unpacks ``data/NAME.tar`` or ``data/text/NAME.tar.xz`` to ``into/NAME`` unless the folder is there already.

    A corpus that is already a folder in ``data`` is linked, not copied. Members that would leave the folder are refused
    (tar "data" filter).
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
            (draft / name).rename(target)
        except (OSError, EOFError, tarfile.TarError, lzma.LZMAError) as error:
            raise VoicegraftError(f"cannot unpack a folder {name} from {archives[0]}: {error}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def book_paragraphs(place: Path) -> Iterator[str]:
    """Paragraphs of a text file, or of all ``*.txt`` in a folder, line breaks folded, emphasis marks removed."""
    for path in sorted(place.glob("*.txt")) if place.is_dir() else [place]:
        if path.name == "SOURCE.txt":
            continue
        for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8", errors="replace")):
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


def dictionary_words(path: Path) -> list[str]:
    """The plain words that a pronouncing dictionary lists, one entry a line: letters and inner apostrophes, two or more."""
    first = (line.split(maxsplit=1)[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    return sorted({word for word in first if re.fullmatch(r"[a-z]+(?:'[a-z]+)*", word) and len(word) > 1})


def words_key(text: str) -> str:
    """Text reduced to its words: two texts with the same key say the same."""
    return " ".join(re.findall(r"[a-z']+", text.lower()))
