"""Bytes that somebody gives as text -> text: UTF-8, UTF-16 with its mark, else Windows-1252 where it looks like that; no more.

What is no text is refused, as is text in another encoding: spoken, it would be gibberish. All text from outside comes in here.
"""

from __future__ import annotations

import codecs
import gzip
import io
import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from voicegraft.core.errors import VoicegraftError

_MARKS = {  # the longer first: the mark of UTF-16 begins that of UTF-32
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_SIGNATURES = {
    b"%PDF-": "a PDF",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x1f\x8b": "a gzip archive",
    b"PK\x03\x04": "a zip archive (as .docx, .odt and .epub are)",
    b"7z\xbc\xaf": "a 7z archive",
    b"\xd0\xcf\x11\xe0": "an old Office document",
    b"{\\rtf": "an RTF document",
    b"\x7fELF": "a program",
    b"OggS\0": "Ogg audio",
    b"fLaC\0": "FLAC audio",
    b"ID3\3": "MP3 audio",
    b"ID3\4": "MP3 audio",
}
_CONTROLS = re.compile(
    r"[\x00-\x07\x0e-\x1a\x1c-\x1f\x7f]"
)  # but white space, backspace and the escape of colour codes
_BLOCK = 1 << 16  # bytes that are read at once
_KEPT = 1 << 12  # bytes by which an encoding is judged
_TELLING = 64  # bytes, of which those that are no UTF-8 are among the last
_log = logging.getLogger(__name__)


def decode(data: bytes, name: str) -> str:
    """The whole text at once; see ``decoded``."""
    return "".join(decoded([data], name))


def decoded(blocks: Iterable[bytes], name: str, replaces: bool = False) -> Iterator[str]:
    """Text as its bytes come: nothing in UTF-8 waits for more of them than its own character needs.

    Args:
        blocks: of any size, cut anywhere.
        name: of where they come from, for the log and for errors.
        replaces: gives U+FFFD for what is damaged in UTF-8 and goes on.

    Raises:
        VoicegraftError: it is no text, or not in one of the encodings.
    """
    return _Reader(name, replaces).read(blocks)


def file_lines(path: Path, replaces: bool = False) -> Iterator[str]:
    """The lines of a text file, which may be gzipped (``.gz``), each with its line break; see ``decoded``."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            yield from lines_of(decoded(iter(lambda: file.read(_BLOCK), b""), str(path), replaces))
    except (OSError, EOFError) as error:
        raise VoicegraftError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def read_file(path: Path) -> str:
    """The text of a file; see ``decoded``."""
    return "".join(file_lines(path))


def arriving(file: IO[bytes], name: str) -> Iterator[str]:
    """What comes through a pipe, when it comes; see ``decoded``."""
    read = getattr(file, "read1", file.read)
    return decoded(iter(lambda: read(_BLOCK), b""), name)


def lines_of(pieces: Iterable[str]) -> Iterator[str]:
    """Pieces of text -> its lines, each with its line break, however that is written."""
    breaks, begun = io.IncrementalNewlineDecoder(None, translate=True), ""
    for piece in pieces:
        *whole, begun = (begun + breaks.decode(piece)).split("\n")
        yield from (f"{line}\n" for line in whole)
    begun += breaks.decode("", final=True)
    if begun:
        yield begun


def argument(text: str) -> str:
    """A text of the command line, where bytes that are no UTF-8 come as lone surrogates."""
    return decode(os.fsencode(text), "the text") if any("\udc80" <= char <= "\udcff" for char in text) else text


class _Reader:
    def __init__(self, name: str, replaces: bool):
        self.name, self.replaces = name, replaces
        self._encoding = "utf-8"
        self._decoder: codecs.IncrementalDecoder | None = None  # None: the beginning has not been seen
        self._recent = self._held = b""
        self._wide = self._chars = self._controls = 0  # characters beyond ASCII, all, and what no text has

    def read(self, blocks: Iterable[bytes]) -> Iterator[str]:
        head = b""
        for block in blocks:
            head += block
            if self._decoder is None and any(
                mark != head and mark.startswith(head) for mark in (*_MARKS, *_SIGNATURES)
            ):
                continue  # may still become one of these
            if piece := self._piece(head, False):
                yield piece
            head = b""
        if piece := self._piece(head, True):
            yield piece

    def _piece(self, block: bytes, last: bool) -> str:
        if self._decoder is None:
            for signature, what in _SIGNATURES.items():
                if block.startswith(signature):
                    raise self._refusal(f"it is {what}")
            mark, self._encoding = next(((m, e) for m, e in _MARKS.items() if block.startswith(m)), (b"", "utf-8"))
            block = block[len(mark) :]
            self._decoder = self._decoder_of()
        self._recent = (self._recent + block)[-max(_KEPT, len(block)) :]
        block = self._held + block
        before, self._held = self._decoder.getstate()[0], b""
        try:
            text = self._decoder.decode(block, last)
        except UnicodeDecodeError as error:
            if self._encoding != "utf-8":
                raise self._refusal(f"it is no {self._encoding.upper()} ({error.reason})") from error
            text = self._otherwise(before + block, last)
        self._wide += sum(char > "\x7f" for char in text) if not text.isascii() else 0
        self._chars += len(text)
        self._controls += len(_CONTROLS.findall(text))
        if "\0" in text:
            zeros = [self._recent[start::2].count(0) / max(1, len(self._recent[start::2])) for start in (0, 1)]
            what = "UTF-16 without its mark" if max(zeros) > 0.4 and min(zeros) < 0.1 else "binary"
            raise self._refusal(f"it is {what}")
        if self._controls > 4 + self._chars // 50:
            raise self._refusal("it is binary")
        return text

    def _otherwise(self, block: bytes, last: bool) -> str:
        """What is not UTF-8, in Windows-1252 if it looks like that; nothing while too little has come to tell."""
        if len(self._recent) < _TELLING and not last:
            self._decoder, self._held = self._decoder_of(), block
            return ""
        damaged = self._recent.decode("utf-8", "replace")
        wrong = damaged.count("\ufffd")
        right = self._wide + sum(char > "\x7f" for char in damaged) - wrong
        if right <= wrong and _is_western(self._recent):
            _log.warning("%s is not UTF-8 and is read as Windows-1252; save it as UTF-8 if that is wrong", self.name)
            self._encoding = "cp1252"
            self._decoder = self._decoder_of()
            return self._decoder.decode(block, last)
        if self.replaces and b"\0" not in block:
            self._decoder = self._decoder_of("replace")
            return self._decoder.decode(block, last)
        raise self._refusal("it is binary, or text in another encoding")

    def _decoder_of(self, errors: str = "strict") -> codecs.IncrementalDecoder:
        return codecs.getincrementaldecoder(self._encoding)(errors)

    def _refusal(self, why: str) -> VoicegraftError:
        return VoicegraftError(f"{self.name} is not text in UTF-8: {why}; give a text file, saved as UTF-8")


def _is_western(data: bytes) -> bool:
    """Whether bytes look like a text of Western Europe in Windows-1252: nearly all letters and spaces, most of them ASCII."""
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return False
    said = sum(char.isalpha() or char.isspace() for char in text)
    wide = sum(byte > 0x7F for byte in data)
    return not _CONTROLS.search(text) and said >= 0.7 * len(text) and wide <= 0.34 * len(data)
