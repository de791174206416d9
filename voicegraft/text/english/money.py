"""Money: a sign or a code, an amount or a range, a magnitude, and what it is paid for."""

from __future__ import annotations

import re

from voicegraft.text.english.measures import AMOUNT, MAGNITUDE, PER, TO, describes, say_magnitude, say_per
from voicegraft.text.english.numbers import Number, cardinal, parse, plural
from voicegraft.text.english.tokens import Match, Rule, Said, after, one_of, rule
from voicegraft.text.english.words import table

_CURRENCIES = {name: words.split(", ") for name, words in table("currencies").items()}
_SIGN = rf"(?:{one_of(name for name in _CURRENCIES if not name.isalpha() or name == 'Rs')})"
_CODE = rf"(?:{one_of(name for name in _CURRENCIES if name.isalpha() and name.isupper())})"
# k, m, bn: glued to the number, or after a space where no word follows.
_BIG = rf"(?:[ \u00a0-]?{MAGNITUDE}\b|(?:[kKmMbBtT]|MM|mm|mn|mln|bn|Bn|BN|bln|tn|trn)(?![\w$])|\ (?:[kKmMbB]|mn|bn)(?![\w'.-]))"
_MINUS = r"(?P<minus>[-+])?"
_EURO = r"\d{1,3}(?:\.\d{3})*,\d\d(?![\d,])"  # 1.234,56 as most of Europe writes it


def _say(number: Number, magnitude: str, currency: str, is_one: bool) -> str:
    """Five dollars twenty cents; of a price that describes something: five dollar."""
    major, *minor = _CURRENCIES[currency]
    if magnitude:
        return f"{number.say(' ')} {magnitude} {major if is_one else plural(major)}"
    decimals = number.decimals or ""
    if len(decimals) == 3 and decimals.endswith("0"):
        decimals = decimals[:2]
    if decimals and (len(decimals) > 2 or not minor):
        return f"{number.say()} {major if is_one else plural(major)}"
    cents = int(decimals.ljust(2, "0")) if decimals else 0
    parts = []
    if number.value or not cents:
        parts.append(f"{cardinal(number.whole or '0')} {major if number.value == 1 or is_one else plural(major)}")
    if cents:
        parts.append(f"{cardinal(cents)} {minor[0] if cents == 1 or is_one else plural(minor[0])}")
    return " ".join(parts)


def _say_money(match: Match) -> Said:
    groups = match.groupdict()
    currency = groups.get("sign") or match["code"]
    if currency == "$" and groups.get("after"):
        currency = match["after"]  # $500 CAD
    is_behind = "code" not in groups and currency == "$" and match.end("sign") > match.end("first")
    if is_behind and re.search(r"\$[\\A-Za-z({\[][^$]*$", match.string[: match.start()]):
        return None  # the end of a formula
    first = parse(match["first"])
    big, last_big = (say_magnitude(groups.get(name)) for name in ("big", "last_big"))
    sign = {"-": "minus ", "+": "plus "}.get(groups.get("minus") or groups.get("inner") or "", "")
    if groups.get("many"):
        return sign + plural(cardinal(first.whole))  # two $20s
    hyphen = (groups.get("last_big") or groups.get("big") or "").startswith("-") or bool(groups.get("noun"))
    is_one = not groups.get("per") and (describes(match, hyphen) or bool(groups.get("noun")))
    said = _say(first, big, currency, is_one)
    if groups.get("second"):
        last = _say(parse(match["second"]), last_big, currency, is_one)
        # Of $1-2 billion and $20-30 the first has neither sign nor magnitude of its own.
        alone = not (groups.get("last_sign") or big or (first.decimals and not last_big))
        is_sum = groups.get("last_sign") and after(match).lstrip().startswith("=")
        said = f"{first.say() if alone else said} {'minus' if is_sum else 'to'} {last}"
    return sign + said + say_per(groups.get("per"))


def _say_old_money(match: Match) -> Said:
    """`£4 10s. 6d.`, `3s. 6d.`, as it was until 1971."""
    words = []
    for group, one, several in (
        ("pounds", "pound", "pounds"),
        ("shillings", "shilling", "shillings"),
        ("pence", "penny", "pence"),
    ):
        if match[group]:
            number = parse(match[group])
            words.append(f"{number.say()} {one if number.is_one else several}")
    return " ".join(words)


def _say_euro(match: Match) -> Said:
    number = match["first"].replace(".", "").replace(",", ".")
    return _say(parse(number), "", match["sign"], False)


def _say_cents(match: Match) -> Said:
    number = parse(match["first"])
    return f"{number.say()} {'cent' if number.is_one else 'cents'}" + say_per(match["per"])


RULES: list[Rule] = [
    rule(rf"(?P<sign>€)\ ?(?P<first>{_EURO})", _say_euro),
    rule(
        rf"£(?P<pounds>{AMOUNT})(?:,?\ (?:and\ )?)?(?P<shillings>\d{{1,2}})s\b\.?(?:,?\ ?(?P<pence>\d{{1,2}})d\b\.?)?",
        _say_old_money,
    ),
    rule(
        rf"{_MINUS}(?P<sign>{_SIGN})\s?(?P<inner>-(?=[\d.]))?(?P<first>{AMOUNT})(?P<big>{_BIG})?"
        rf"(?:{TO}(?P<last_sign>{_SIGN})?(?P<second>{AMOUNT})(?P<last_big>{_BIG})?)?"
        rf"(?:(?P<many>'?s\b)|[ ](?P<after>{_CODE})\b|(?P<noun>[- ](?:dollar|pound|euro)\b|-(?:dollar|pound|euro)s\b)"
        rf"|[ ]dollars\b)?(?:{PER})?(?!\d)",
        _say_money,
    ),
    rule(
        rf"{_MINUS}(?P<code>{_CODE})\s?(?P<first>{AMOUNT})(?P<big>{_BIG})?"
        rf"(?:{TO}(?P<second>{AMOUNT})(?P<last_big>{_BIG})?)?(?:{PER})?(?!\d)",
        _say_money,
    ),
]
# The sign or the code stands behind.
AFTER_RULES: list[Rule] = [
    rule(r"(?P<pounds>(?!))?(?P<shillings>\d{1,2})s\.?,?\ ?(?P<pence>\d{1,2})d\b\.?", _say_old_money),
    rule(
        r"(?P<pounds>(?!))?(?P<shillings>\d{1,2})s\.(?P<pence>(?!))?(?=\ (?:per|each|an?\ (?:day|week|year|month))\b)",
        _say_old_money,
    ),
    rule(rf"(?P<first>{_EURO})[ \u00a0]?(?P<sign>€)", _say_euro),
    rule(
        rf"{_MINUS}(?P<first>{AMOUNT})(?:{TO}(?P<second>{AMOUNT}))?(?P<last_big>[ ]?{MAGNITUDE}|(?:[kKmMbB]|bn)(?=[ ]?[€£$]))?"
        rf"[ \u00a0]?(?P<sign>[€£$¥₹₽](?!\s?\d)|{_CODE}\b)(?:{PER})?(?!\d)",
        _say_money,
    ),
    rule(rf"(?P<first>{AMOUNT})[ ]?¢(?:{PER})?", _say_cents),
]
