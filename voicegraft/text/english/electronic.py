"""Reads web and e-mail addresses, file names and paths aloud."""

from __future__ import annotations

import re
from collections.abc import Iterator

from voicegraft.text.english.capitals import is_word
from voicegraft.text.english.numbers import DIGITS
from voicegraft.text.patterns import lazy

_SYMBOLS = {
    ".": "dot", "@": "at", "/": "slash", "\\": "backslash", "-": "dash", "_": "underscore", "?": "question mark",
    "=": "equals", "&": "ampersand", "+": "plus", "%": "percent", "#": "hash", "~": "tilde", ":": "colon",
}  # fmt: skip
# Said letter by letter, so in capitals, as are two letters after a dot; except what is a word all the same.
_LETTERS = frozenset(("www", "html", "htm", "php", "pdf", "csv", "png", "mp", "exe", "xls", "css", "xml", "id"))
_WORDS = frozenset(("co", "me", "us"))
_DOMAINS = (
    "com|org|net|edu|gov|mil|int|info|biz|dev|app|ai|io|co|tv|me|uk|us|ca|au|nz|ie|de|fr|it|es|nl|be|ch|at|se|no|dk|fi"
    "|pl|ru|cn|jp|kr|in|br|mx|eu|sm"
)
_FILES = "txt|md|py|pdf|docx?|xlsx?|csv|json|html?|jpe?g|png|gif|svg|mp3|mp4|wav|flac|zip|exe|js|css|xml|ya?ml|cpp"
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?"
_TAIL = r"(?:[/?#:](?:[^\s<>\"'()]{0,400}[A-Za-z0-9/=_-])?)?"
_ADDRESS = lazy(
    rf"""(?<![\w@.])(?:
        (?:https?|ftp|file)://[^\s<>"'()]{{0,400}}[A-Za-z0-9/=_-]
      | [A-Za-z0-9](?:[\w.+&%-]{{0,62}}[\w+-])?@{_NAME}(?:\.{_NAME}){{1,6}}{_TAIL}
      | www\.{_NAME}(?:\.{_NAME}){{0,6}}{_TAIL}
      | (?:{_NAME}\.){{1,6}}(?:{_DOMAINS}){_TAIL}(?![\w.]*@)(?!\w)
      | [\w-]{{1,64}}\.(?i:{_FILES})(?!\w)
      | @[A-Za-z]\w{{0,40}}_\w{{1,40}}
      | [A-Za-z]:\\[\w\\. -]{{0,200}}\w
      | (?:~|\.{{1,2}})(?:/[\w.-]{{0,63}}\w){{1,20}}/?
      | (?:/[\w.-]{{1,64}}){{2,20}}/?
    )""",
    re.VERBOSE,
)
_PARTS = lazy(r"[A-Za-z]+|\d|[^\sA-Za-z\d]")
_CHEAP = re.compile(r"[@/\\]|[A-Za-z0-9_]\.[A-Za-z]")  # no address lacks these


def addresses(text: str) -> Iterator[re.Match[str]]:
    """Web and e-mail addresses, file names and paths."""
    return _ADDRESS.finditer(text) if _CHEAP.search(text) else iter(())


def read_address(address: str) -> str:
    """`https://www.example.com/a_1` is `WWW dot example dot com slash a underscore one`."""
    address = re.sub(r"^(?:https?|ftp|file)://", "", address)
    if not address.startswith("/"):
        address = address.rstrip("/")
    if address.isupper():
        address = address.lower()
    words: list[str] = []
    for part in _PARTS.findall(address):
        if part.isdigit():
            words.append(DIGITS[int(part)])
        elif part.isalpha():
            is_code = part.lower() in _LETTERS or (len(part) == 2 and words[-1:] == ["dot"])
            if is_code and part.lower() not in _WORDS:
                words.append(part.upper())
            else:
                words.append(part.lower() if part.isupper() and is_word(part.lower()) else part)
        elif part in _SYMBOLS:
            words.append(_SYMBOLS[part])
    return " ".join(words)
