"""Takes out what looks like text and is none: blobs, endless words, emoticons. All of it is reported."""

from __future__ import annotations

import re
from collections.abc import Callable

_LONG_CHARS = 64  # of a word or an address; no word and no readable address is longer
_LONG = re.compile(rf"\S{{{_LONG_CHARS + 1},}}")
_LONG_WORD = re.compile(rf"[A-Za-z0-9]{{{_LONG_CHARS + 1},}}")
_HOST = re.compile(r"(?i)(?:[a-z]{2,6}://)?[a-z0-9][a-z0-9-]*(?:\.[a-z0-9-]+)+(?=[/?#:])")
_ADDRESS_MARK = re.compile(r"[/&=%?]")
_MOST_MARKS = 3  # in a long token that is no address: more are the rest of one, cut where a sentence became too long
_TURNS = re.compile(r"(?<=[a-z])(?=[A-Z0-9])|(?<=\d)(?=[A-Za-z])|(?<=[A-Z])(?=\d)")
_TURNS_PER_CHAR = 0.2  # from here on, changes between capitals, small letters and digits mean that nobody wrote it
_EMOTICON = re.compile(
    r"(?<!\S)(?:[:;]['-]?[DPpOosS()\[\]|/\\*]+|=[D)(]|[xX]D+|(?<!\b[a-z0-9] )<3+|\^_+\^|-_+-|o_O|O_o|T_T|\\_\( \)_/)(?![\w/])"
)


def drop_noise(text: str, leave_out: Callable[[str], None]) -> str:
    """The text without what nobody would read aloud, which `leave_out` is told.

    Of an address without an end the host stays.
    """

    def shorten(match: re.Match[str]) -> str:
        token = match.group()
        host = _HOST.match(token)
        if host and len(host.group()) <= _LONG_CHARS:
            leave_out(token[host.end() :])
            return host.group()
        is_rest = len(_ADDRESS_MARK.findall(token)) > _MOST_MARKS
        if is_rest or len(_TURNS.findall(token)) > _TURNS_PER_CHAR * len(token):
            leave_out(token)
            return " "
        return _LONG_WORD.sub(drop, token)

    def drop(match: re.Match[str]) -> str:
        if match.group().isdigit():
            return match.group()
        leave_out(match.group())
        return " "

    return _EMOTICON.sub(drop, _LONG.sub(shorten, text))
