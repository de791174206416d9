"""Tells capitals that shout or name (`PLEASE CLOSE THE DOOR`) from capitals that are read letter by letter (`FBI`).

A voice spells what stands in capitals, so whatever is a word must not stay in them. What looks like a word is one: a short
word that is listed, or a longer one that English could pronounce, unless it is a known initialism.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from voicegraft.text.english.words import word_set
from voicegraft.text.units import WORD

SHORT_WORDS = word_set("short words")
_LONG = 5  # letters; shorter words in capitals must be listed
_INITIALISMS = word_set("initialisms")
# Words as well as initialisms: where everything shouts they are words, elsewhere these two are not.
_AMBIGUOUS = frozenset(("us", "it"))
_TITLES = word_set("titles")
_NAMES = word_set("calendar")
_STARTS = word_set("starts") | {""}
_ENDS = word_set("ends") | {""}
_VOWELS = re.compile(r"([aeiouy]+)")
CAPITALS = re.compile(r"(?:[A-Z]+(?:'[A-Z]+)+|[A-Z]{2,})(?![A-Za-z0-9])")
_ROMAN = re.compile(r"(?=[IVX]{2})X{0,3}(?:IX|IV|V?I{0,3})")
_FIRM_BEFORE = re.compile(r"[A-Z]\s?&\s?$|\b[B-HJ-Z] (?:and|AND) $")
_FIRM_AFTER = re.compile(r"\s?&\s?[A-Z]{1,3}\b| (?:and|AND) [B-HJ-Z]\b")
_SEVERAL = re.compile("[A-Z]'?[A-Z]")
_LONGER = re.compile(r"([A-Z])\1{2,}")
_CRIES = frozenset(("ah", "oh", "ooh", "uh", "eh", "um"))  # these may begin with a long letter


def looks_like_a_word(word: str) -> bool:
    """Whether English could pronounce the small letters: known beginnings, middles and ends of syllables."""
    parts = _VOWELS.split(word)
    if len(parts) < 3 or parts[0] not in _STARTS or parts[-1] not in _ENDS or any(len(p) > 3 for p in parts[1::2]):
        return False
    return all(
        any(inner[:cut] in _ENDS and inner[cut:] in _STARTS for cut in range(len(inner) + 1)) for inner in parts[2:-1:2]
    )


def is_word(letters: str) -> bool:
    """Whether capitals of these letters, here in small ones, are a word and no initialism."""
    if letters in _INITIALISMS:
        return False
    return letters in SHORT_WORDS or (len(letters) >= _LONG and looks_like_a_word(letters))


def loud_places(sentence: str) -> frozenset[int]:
    """Where the words begin that stand among other words in capitals."""
    loud: list[int] = []
    if not _SEVERAL.search(sentence):
        return frozenset()
    for run in _runs(sentence):
        words = [match.group().partition("'")[0].lower() for match in run]
        num_words = sum(map(is_word, words))
        num_likely = num_words + sum(word in _AMBIGUOUS or word in ("am", "who") or word in _TITLES for word in words)
        if num_words and num_likely >= 2 and 2 * num_likely >= len(words):
            loud += [match.start() for match in run]
    return frozenset(loud)


def _runs(sentence: str) -> Iterator[list[re.Match[str]]]:
    """Words in capitals that follow one another; single letters and numbers belong to any run."""
    run: list[re.Match[str]] = []
    for match in WORD.finditer(sentence):
        word = match.group()
        if word.isupper() and len(word) > 1:
            run.append(match)
        elif len(word) > 1:
            yield run
            run = []
    yield run


def read_capitals(match: re.Match[str], is_loud: bool) -> str:
    word, sentence = match.group(), match.string
    before, after = sentence[: match.start()][-60:], sentence[match.end() :][:60]
    if len(word) <= 3 and (_FIRM_BEFORE.search(before) or _FIRM_AFTER.match(after)):
        return word  # AT&T
    if before.endswith("$") or (re.search(r"[a-z], $", before) and re.match(r"(?: \d{5}|[.;]|$)", after)):
        return word  # a share, a state after its city
    stem, apostrophe, ending = word.partition("'")
    if ending and ending != "S":
        return f"I'{ending.lower()}" if stem == "I" else word.lower()  # no initialism is contracted
    if len(set(stem)) > 1:
        for few in (1, 2):  # NOOO, BOOO, but IEEE
            sober = _LONGER.sub(r"\1" * few, stem)
            if sober != stem and is_word(sober.lower()) and (sober[0] != stem[1] or sober.lower() in _CRIES):
                word = word.replace(stem, sober)
                stem = sober
                break
    small = stem.lower()
    if small in _AMBIGUOUS:
        follows_article = re.search(r"(?i)\bthe $", before)
        starts = small == "us" and not before.strip() and not after.startswith("'")
        is_said = bool(ending) or (is_loud and not follows_article and not starts)
    elif small == "am":
        is_said = (
            (is_loud and not re.search(r"\d\s?$", before))
            or before.endswith("I ")
            or after.startswith(" I ")
            or after.startswith(" I?")
        )
    elif small == "who":
        is_said = not before.lower().endswith("the ")
    elif _ROMAN.fullmatch(stem):
        return word
    elif is_loud and small in _TITLES:
        return word.capitalize() if after.startswith((".", " ")) else word
    elif is_loud:
        is_name = small not in _INITIALISMS and (
            (len(small) > 2 and looks_like_a_word(small)) or (len(small) >= _LONG and bool(_VOWELS.search(small)))
        )
        is_said = is_name or is_word(small)
    else:
        is_said = is_word(small)
    if not is_said:
        return stem + apostrophe + ending.lower()
    names_ruler = re.match(rf" {_ROMAN.pattern}(?![\w'])", after)
    has_title = before.lower().rstrip(" .").rpartition(" ")[2] in _TITLES
    has_capital = (
        small in _NAMES or names_ruler or (is_loud and has_title) or (small == "may" and re.match(r" \d", after))
    )
    return word.capitalize() if has_capital else word.lower()
