"""Takes out what looks like text and is none: blobs, endless words, emoticons. All of it is reported."""

from __future__ import annotations

import re
from collections.abc import Iterator

from voicegraft.text.patterns import lazy

_LONG_CHARS = 64  # of a word or an address; no word and no readable address is longer
_LONG = re.compile(rf"(?<!\S)\S{{{_LONG_CHARS + 1},}}")
_LONG_WORD = lazy(rf"[A-Za-z0-9]{{{_LONG_CHARS + 1},}}")
_HOST = lazy(r"(?i)(?:[a-z]{2,6}://)?[a-z0-9][a-z0-9-]*(?:\.[a-z0-9-]+)+(?=[/?#:])")
_ADDRESS_MARK = lazy(r"[/&=%?]")
_MOST_MARKS = 3  # in a long token that is no address: more are the rest of one, cut where a sentence became too long
_TURNS = lazy(r"(?<=[a-z])(?=[A-Z0-9])|(?<=\d)(?=[A-Za-z])|(?<=[A-Z])(?=\d)")
_TURNS_PER_CHAR = 0.2  # from here on, changes between capitals, small letters and digits mean that nobody wrote it
_EMOTICON = re.compile(
    r"(?<!\S)(?:[:;]['-]?[DPpOosS()\[\]|/\\*]+|=[D)(]|[xX]D+|(?<!\b[a-z0-9] )<3+(?!%|[.,]\d)"
    r"|\^_+\^|-_+-|o_O|O_o|T_T|\\_\( \)_/)(?![\w/])"
)


def noise(text: str) -> Iterator[tuple[int, int]]:
    """The slices that nobody would read aloud, in order; of an address without an end the host stays."""
    for match in _EMOTICON.finditer(text):
        yield match.span()
    for match in _LONG.finditer(text):
        token, start = match.group(), match.start()
        host = _HOST.match(token)
        if host and len(host.group()) <= _LONG_CHARS:
            yield start + host.end(), match.end()
            continue
        is_rest = len(_ADDRESS_MARK.findall(token)) > _MOST_MARKS
        if is_rest or len(_TURNS.findall(token)) > _TURNS_PER_CHAR * len(token):
            yield match.span()
            continue
        for word in _LONG_WORD.finditer(token):
            if not word.group().isdigit():
                yield start + word.start(), start + word.end()
