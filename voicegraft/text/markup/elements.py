"""Tags: how HTML and XML are written, and what the elements of HTML mean to a reader."""

from __future__ import annotations

from html import unescape
from typing import TYPE_CHECKING

from voicegraft.text.markup.spoken import HEADING_SEC, PARAGRAPH_SEC, SECTION_SEC
from voicegraft.text.patterns import lazy, lazy_regex

if TYPE_CHECKING:
    import regex


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_VALUE = r"""(?:"[^"<]{0,20000}"|'[^'<]{0,20000}'|[^\s"'<>]{1,2000})"""
# Other words without a value are those of a sentence: `a <b and c> d`.
_FLAGS = (
    "allowfullscreen|async|autoplay|checked|compact|controls|default|defer|disabled|hidden|inert|ismap|itemscope|loop"
    "|multiple|muted|nomodule|noshade|novalidate|nowrap|open|playsinline|readonly|required|reversed|selected"
)
_ATTRIBUTES = rf"(?:\s+(?:[\w:@.-]{{1,60}}\s*=\s*{_VALUE}|(?:{_FLAGS})(?=[\s/>]))){{0,60}}"
TAG = lazy_regex(rf"<(?P<close>/?)(?P<name>[A-Za-z][\w:.-]{{0,40}})(?P<attributes>{_ATTRIBUTES})\s*/?>")
# What stands between < and > without being read: declarations and processing instructions.
SILENT = lazy_regex(r"<(?:\?[^<>]{0,2000}|!(?i:doctype)\b[^<>]{0,2000})>")
COMMENT = lazy_regex("<!--")
CDATA = lazy_regex(r"<!\[CDATA\[(?P<text>(?:[^\]]|\](?!\]>)){0,20000})\]\]>")
ADDRESS = lazy_regex(r"<(?P<text>(?:https?|ftp|mailto):[^\s<>]{1,2000}|[\w.+-]{1,64}@[\w.-]{1,250})>")
RAISED = lazy_regex(r"<sup(?:\s[^<>]{0,200})?>(?P<text>[^<>&\n]{1,20})</sup\s*>")
ENTITY = lazy_regex(r"&(?:[A-Za-z][A-Za-z0-9]{1,31}|#\d{1,7}|#[xX][0-9A-Fa-f]{1,6});")
_ATTRIBUTE = lazy(rf"([\w:@.-]+)\s*=\s*({_VALUE})")

# Seconds after the elements that end a paragraph, or the sentence only.
PAUSES = {
    **dict.fromkeys(_names("h1 h2 h3 h4 h5 h6 title"), HEADING_SEC),
    **dict.fromkeys(
        _names(
            "address article aside blockquote body center details dialog div dl fieldset figure footer form head"
            " header hgroup html main nav ol p pre section table ul"
        ),
        PARAGRAPH_SEC,
    ),
    **dict.fromkeys(_names("caption dd dt figcaption legend li optgroup option summary tbody tfoot thead tr"), 0.0),
    "hr": SECTION_SEC,
}
RAW = frozenset(("script", "style"))  # hold no text for people
CELLS = frozenset(("td", "th"))
# Inside a word; they may also stand glued to one, where others are more likely types: `Promise<object>`.
_GLUED = _names(
    "a abbr acronym b bdi bdo big br cite code del dfn em font i ins kbd mark nobr q rp rt ruby s samp small span"
    " strike strong sub sup tt u wbr"
)
_GLUED_BLOCKS = _names("dd div dt h1 h2 h3 h4 h5 h6 hr li ol p td th tr ul")
_OTHERS = _names(
    "area audio base button canvas col colgroup data datalist embed iframe img input label link map math menu meta"
    " meter noscript object output param picture progress search select slot source svg template textarea time track var"
    " video"
)
_KNOWN = _GLUED | _OTHERS | PAUSES.keys() | RAW | CELLS
_RAISED = str.maketrans("0123456789+-−=()", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾")


def attribute(match: regex.Match[str], name: str) -> str:
    """The value of an attribute of a tag that ``TAG`` found; empty if there is none."""
    for found, value in _ATTRIBUTE.findall(match["attributes"]):
        if found.lower() == name:
            return " ".join(unescape(value.strip("\"'")).split())
    return ""


def is_known(name: str) -> bool:
    """Whether HTML has an element of that name; `<name>` in a letter and `<Object>` are none."""
    return name.lower() in _GLUED | _GLUED_BLOCKS or (name.lower() in _KNOWN and (name.islower() or name.isupper()))


def is_tag(match: regex.Match[str], glued: bool) -> bool:
    """Whether what looks like a tag is one, and not a type or a comparison.

    Args:
        glued: a word stands right before it.
    """
    name = match["name"]
    is_bare = not match["close"] and not match["attributes"]
    return not (is_bare and glued) or (is_known(name) and name.lower() in _GLUED | _GLUED_BLOCKS)


def breaks_words(name: str) -> bool:
    """Whether a word ends at the tag."""
    return name not in _GLUED


def raised(text: str, before: str) -> str:
    """What stands in <sup>: a power in raised digits or after `^`, anything else (1st, a note's mark) as it is."""
    power = text.strip().translate(_RAISED)
    if power and not any(map(str.isascii, power)):
        return power
    is_power = before.isalnum() and power.isalnum() and (len(power) == 1 or not power.isalpha())
    return f"^{text.strip()}" if is_power else text
