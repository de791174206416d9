"""Money, measures, shares: numbers with a sign, a magnitude and a unit, alone or as a range."""

from __future__ import annotations

import re

from voicegraft.text.english.numbers import NUMBER, SPACED, Number, cardinal, fraction_words, parse, plural
from voicegraft.text.english.tokens import Match, Piece, Rule, Said, after, before, one_of, pieces, rule
from voicegraft.text.english.words import table, word_set

_CURRENCIES = {name: tuple(words.split(", ")) for name, words in table("currencies").items()}
_UNITS = table("units")
_PER = table("per") | _UNITS
_SIGNS = [name for name in _CURRENCIES if not name.isalpha() or name == "Rs"]
_CODES = [name for name in _CURRENCIES if name.isalpha() and name.isupper()]
_NO_NOUNS = word_set("no nouns")
_MAGNITUDES = {
    "k": "thousand", "m": "million", "mm": "million", "mn": "million", "mln": "million", "b": "billion", "bn": "billion",
    "bln": "billion", "t": "trillion", "tn": "trillion", "trn": "trillion",
}  # fmt: skip
MAGNITUDE = r"(?:hundred|thousand|million|billion|trillion|quadrillion|lakh|crore)"
_SHORT = r"(?:[kKmMbBtT]|MM|mm|mn|mln|bn|Bn|BN|bln|tn|trn)"
_BIG = rf"(?:[ \u00a0-]?{MAGNITUDE}\b|{_SHORT}(?![\w$])|\ (?:[kKmMbB]|mn|bn)(?![\w'.-]|\ [a-z]+ly\b))"
_TO = r"[ \u00a0]?(?:--?|–)[ \u00a0]?"
_ALONE = r"(?![\w%]|[.,:]\d|/\d|-\d)"
_SIGN = rf"(?:{one_of(_SIGNS)})"
_CODE = rf"(?:{one_of(_CODES)})"
_AMOUNT = rf"(?:{SPACED}|{NUMBER})"
_UNIT = one_of(_UNITS)
_EXPONENT = r"(?:\^?[23](?!\d))"
_MEASURE = rf"(?:{_UNIT}){_EXPONENT}?(?:[/·](?:{_UNIT}){_EXPONENT}?){{0,2}}"
_MINUS = r"(?P<minus>-)?"
_POWERS = {"2": "square", "3": "cubic"}
_ARTICLE = re.compile(
    r"(?i)\b(?:an?|another|each|every|my|his|her|your|our|their|its|this|that|one|first)\ $", re.VERBOSE
)
_NOUN = re.compile(r"[ -](?!-)([a-z]{2,})\b(?!\.[a-z])")
_PER_WORD = rf"[ \u00a0]?/[ \u00a0]?(?P<per>{one_of(_PER)}|[a-z]{{3,20}})(?![\w/])"
# What "in" after a number has to be followed by, to be no preposition.
_INCHES = re.compile(
    r"\.?\s*(?:$|[),;:!?]|(?:tall|wide|long|deep|high|thick|across|diameter|screen|x|by|[x×])\b|[x×]\s?\d)|\.(?=\s)"
)


def describes(match: Match, hyphen: bool = False) -> bool:
    """Whether a quantity describes the noun that follows, and is said of one: a five dollar bill."""
    noun = _NOUN.match(after(match))
    return bool(
        noun and noun[1] not in _NO_NOUNS and not noun[1].endswith("ly") and (hyphen or _ARTICLE.search(before(match)))
    )


def unit_words(measure: str, is_one: bool) -> str:
    """`m/s2` is meters per second squared, `mg/dL` milligrams per deciliter, `ft2` square feet."""
    head, *tail = re.split(r"[/·]", measure) if measure not in _UNITS else [measure]
    words = _power(head, is_one)
    for part in tail:
        words += f" per {_power(part, True)}" if "/" in measure else f" {_power(part, is_one)}"
    return words


def _power(unit: str, is_one: bool) -> str:
    found = re.fullmatch(rf"({_UNIT})\^?([23])", unit, re.VERBOSE)
    name = _UNITS[found[1] if found else unit]
    head, per, tail = name.partition(" per ")
    head, of, what = head.partition(" of ")
    said = (head if is_one else plural(head)) + of + what + per + tail
    if not found:
        return said
    if "second" in said or "hour" in said:
        return f"{said} {'squared' if found[2] == '2' else 'cubed'}"
    return f"{_POWERS[found[2]]} {said}"


def _money(number: Number, magnitude: str, currency: str, is_one: bool) -> str:
    major, *minor = _CURRENCIES[currency]
    minus = ""
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
        few = minor[0] if cents == 1 or is_one else "pence" if minor[0] == "penny" else plural(minor[0])
        parts.append(f"{cardinal(cents)} {few}")
    return minus + " ".join(parts)


def _say_magnitude(written: str | None) -> str:
    bare = (written or "").strip(" \u00a0-")
    return _MAGNITUDES.get(bare.lower(), bare.lower())


def _say_money(match: Match) -> Said:
    groups = match.groupdict()
    currency = groups.get("sign") or groups["code"]
    first, second = parse(match["first"]), groups.get("second")
    sign_after = groups.get("after")
    if sign_after == "USD" and currency == "$":
        currency = "USD"
    elif sign_after and currency == "$" and sign_after in _CURRENCIES:
        currency = sign_after
    unit, unit2 = _say_magnitude(groups.get("big")), _say_magnitude(groups.get("big2"))
    is_one = describes(match, hyphen="-" in (groups.get("big2") or groups.get("big") or "")) and not groups.get("per")
    minus = "minus " if groups.get("minus") or groups.get("inner") else ""
    if groups.get("many"):
        return minus + plural(cardinal(first.whole))
    if second is None:
        said = _money(first, unit, currency, is_one)
    else:
        high = _money(parse(second), unit2, currency, is_one)
        cents = first.decimals and not unit and not unit2
        if groups.get("sign2") or unit or cents:
            said = f"{_money(first, unit, currency, is_one)} to {high}"
        else:
            said = f"{first.say()} to {high}"
    return minus + said + _say_per(groups.get("per"))


def _say_per(per: str | None) -> str:
    return f" per {_PER.get(per, per)}" if per else ""


def _say_measure(match: Match) -> Said:
    groups = match.groupdict()
    first, second = parse(match["first"]), groups.get("second")
    unit = match["unit"].replace("\u00a0", " ")
    text, tail = match.string, after(match)
    spaced = match.start("unit") > match.end("second" if second else "first")
    last = parse(second) if second else first
    if unit == "in" and not _is_inches(match, spaced, tail):
        return None
    if unit == "v" or (unit in ("us", "ms") and spaced and tail.startswith((" ", ".", ","))):
        return None
    if unit == "pt" and re.match(r"\.? (?:font|type|text|size)", tail):
        return f"{first.say()} point"
    if unit == "U" and "/" not in match["unit"] and not re.match(r"\s+of\b", tail):
        return None
    if unit in ("N", "F") and re.match(r"\.?\s[A-Z]", tail):
        return None  # 742 N. Oak Rd.
    if unit == "s" and not spaced and (not second or groups.get("unit1")):
        return None  # 90s, 7s
    if unit == "min" and re.match(r"\.? (?:and )?max\b", tail):
        return None
    single = last.is_one or match["hyphen"] == "-" or describes(match)
    if unit in ("mo", "yr", "wk", "ea", "doz") and match["hyphen"] == "-":
        single = True
    words = unit_words(unit, single) + _say_per(groups.get("per"))
    minus = "minus " if groups.get("minus") else ""
    if groups.get("unit1"):
        return f"{minus}{first.say()} {unit_words(groups['unit1'], first.is_one or single)} to {last.say()} {words}"
    start, end = match.start("first") - len(minus and "-"), match.end("second" if second else "first")
    number = minus + first.say() + (f" to {last.say()}" if second else "")
    if groups.get("big"):
        number += " " + _say_magnitude(groups["big"])
        end = match.end("big")
    stop = match.end("per") if groups.get("per") else match.end("unit")
    if text[match.start("unit") : match.end()].endswith(".") and text[match.end() :].strip(" \"')]"):
        stop = match.end()
    return [Piece(number, start, end), Piece(words, match.start("unit"), stop)]


def _is_inches(match: Match, spaced: bool, tail: str) -> bool:
    if match["hyphen"] == "-":
        return True
    if match.group().endswith("."):
        return bool(re.match(r"\s*(?:[a-z),]|x|by|$)", tail))
    follows_feet = re.search(r"(?:ft\.?|feet|foot|')\s?$", before(match))
    return bool(follows_feet or _INCHES.match(tail)) and not (
        spaced and re.match(r"\s*$", tail) is not None and not follows_feet and not match.group().endswith("in")
    )


def _say_unit_alone(match: Match) -> Said:
    """After a fraction or a power: `1/4 tsp`, `10^8 m/s`."""
    ahead = before(match)
    fraction = re.search(r"(?:(\d)\ )?(\d{1,3})/(\d{1,3})\s*-?$", ahead)
    if not fraction and not re.search(r"\d\^-?\d+\ $", ahead):
        return None
    if match["unit"] == "in" and not _INCHES.match(after(match)):
        return None
    single = bool(fraction and not fraction[1] and int(fraction[2]) < int(fraction[3])) or ahead.endswith("-")
    return unit_words(match["unit"], single)


def _say_percent(match: Match) -> Said:
    first, second = parse(match["first"]), match["second"]
    name = {"%": "percent", "‰": "per mille"}[match["unit"]]
    minus = "minus " if match["minus"] else ""
    return f"{minus}{first.say()}" + (f" to {parse(second).say()}" if second else "") + f" {name}"


def _say_degrees(match: Match) -> Said:
    first, second, scale = parse(match["first"]), match["second"], match["scale"]
    minus = "minus " if match["minus"] else ""
    name = {"C": " Celsius", "F": " Fahrenheit", "K": " Kelvin"}.get(scale or "", "")
    single = (parse(second) if second else first).is_one and not minus
    words = minus + first.say()
    if second:
        words += f" to {'minus ' if match['minus2'] else ''}{parse(second).say()}"
    words += f" {'degree' if single else 'degrees'}{name}"
    for group, unit in (("minutes", "minute"), ("seconds", "second")):
        if match[group]:
            number = parse(match[group])
            words += f" {number.say()} {unit if number.is_one else unit + 's'}"
    if match["pole"]:
        words += " " + {"N": "north", "S": "south", "E": "east", "W": "west"}[match["pole"]]
    return words


def _say_feet(match: Match) -> Said:
    """`6'2"`, `6ft2`, `5 ft 2 in`: six foot two."""
    feet, inches = parse(match["feet"]), match["inches"]
    fraction = match["fraction"]
    said = f"{feet.say()} foot {parse(inches).say()}"
    if fraction:
        over, under = fraction.split("/")
        said += " and " + fraction_words(int(over), int(under), mixed=True)
    return said + (" inches" if match["word"] and match["word"].startswith("in") else "")


def _say_marks(match: Match) -> Said:
    """`12' x 15'`, `12" ruler`."""
    number, mark, tail = parse(match["first"]), match["mark"], after(match)
    open_quotes = re.findall(rf"(?<![A-Za-z0-9]){mark}", match.string[: match.start()])
    closed_quotes = re.findall(rf"(?<![\s\d(]){mark}(?![A-Za-z])", match.string[: match.start()])
    if len(open_quotes) > len(closed_quotes):
        return None  # it closes a quotation
    name = "foot" if mark == "'" else "inch"
    noun = _NOUN.match(tail)
    single = number.is_one or (noun is not None and noun[1] not in _NO_NOUNS)
    return f"{number.say()} {name if single else plural(name)}"


def _say_versus(match: Match) -> Said:
    return pieces(
        match, ("first", parse(match["first"]).say()), ("v", "versus"), ("second", parse(match["second"]).say())
    )


def _say_number_magnitude(match: Match) -> Said:
    """`5M users`, `10k`, `2-3 million`."""
    first, second, big = parse(match["first"]), match["second"], match["big"]
    if big in ("m", "mm", "MM", "b", "t") or (
        big in ("K", "T", "B", "M") and not re.match(r" [a-z]+s\b| people\b", after(match))
    ):
        return None  # meters, tons, flat 4B, 4K
    minus = "minus " if match["minus"] else ""
    return f"{minus}{first.say()}" + (f" to {parse(second).say()}" if second else "") + f" {_say_magnitude(big)}"


_RANGE = rf"(?P<first>{_AMOUNT})(?:{_TO}(?P<second>{_AMOUNT}))?"
RULES: list[Rule] = [
    rule(
        rf"{_MINUS}(?P<sign>{_SIGN})\s?(?P<inner>-(?=[\d.]))?(?P<first>{_AMOUNT})(?P<big>{_BIG})?"
        rf"(?:{_TO}(?P<sign2>{_SIGN})?(?P<second>{_AMOUNT})(?P<big2>{_BIG})?)?"
        rf"(?:(?P<many>'?s\b)|[ ](?P<after>{_CODE})\b)?(?:{_PER_WORD})?(?![\d])",
        _say_money,
    ),
    rule(rf"{_MINUS}(?P<code>{_CODE})\s?{_RANGE}(?P<big>{_BIG})?(?:{_PER_WORD})?(?!\d)", _say_money),
    rule(
        rf"{_MINUS}{_RANGE}(?P<big>[ ]?{MAGNITUDE}|(?-i:[kKMmBb]|bn)(?=[ ]?[€£$]))?[ \u00a0]?(?P<sign>[€£$¥₹₽](?!\s?\d)|{_CODE}\b)"
        rf"(?:{_PER_WORD})?(?!\d)",
        _say_money,
    ),
    rule(
        r"(?P<feet>\d{1,3})\s?(?:'|-?ft\.?|feet)\s?(?P<inches>\d{1,2}(?:\.\d)?)(?:[ -]?(?P<fraction>[1357]/(?:2|4|8|16)))?"
        r"\s?(?P<word>\"|''|in\b\.?(?=\s?(?:$|[\w)(,;])|$)|inch(?:es)?\b)?(?![\w'/])(?!,\d|\.\d)",
        _say_feet,
    ),
    rule(
        rf"{_MINUS}{_RANGE}(?P<big>\ {MAGNITUDE}\b)?"
        rf"[ \u00a0]?(?P<hyphen>-)?(?P<unit>{_MEASURE})\b(?!['&]\w|-\d|\.\w|[/^+=]|·)"
        rf"(?:\.(?=\s|[,;:)]))?(?:{_PER_WORD})?",
        _say_measure,
    ),
    rule(
        rf"{_MINUS}(?P<first>{_AMOUNT})[ ]?(?P<unit1>{_UNIT})\b\.?{_TO}(?P<second>{_AMOUNT})[ ]?(?P<hyphen>-)?(?P<unit>{_MEASURE})\b"
        rf"(?![/^+=])",
        _say_measure,
    ),
    rule(rf"{_MINUS}(?P<first>{_AMOUNT})[ ]?%?(?:{_TO}(?P<second>{_AMOUNT}))?[ \u00a0]?(?P<unit>[%‰])", _say_percent),
    rule(
        rf"{_MINUS}(?P<first>{_AMOUNT})(?:°\s?[CF]?)?(?:\s?(?:–|-|to)\s?(?P<minus2>-)?(?P<second>{_AMOUNT}))?[ \u00a0]?°[ \u00a0]?"
        rf"(?P<scale>[CFK]\b)?(?:\s?(?P<minutes>\d{{1,2}}(?:\.\d+)?)')?(?:\s?(?P<seconds>\d{{1,2}}(?:\.\d+)?)(?:\"|''))?"
        r"(?:\s?(?P<pole>[NSEW])\b)?",
        _say_degrees,
    ),
    rule(r"(?P<first>\d{1,4}(?:\.\d{1,3})?)(?P<mark>'|\")(?![\w'\"])", _say_marks),
    rule(r"(?P<first>\d{1,3})[ ]?(?P<v>v|vs)\.?[ ]?(?P<second>\d{1,3})(?!\w)", _say_versus),
    rule(rf"{_MINUS}{_RANGE}(?P<big>[ -]{MAGNITUDE}\b|{_SHORT}(?![\w$]))", _say_number_magnitude),
]
UNIT_RULES: list[Rule] = [rule(rf"(?P<unit>{_MEASURE})\b(?!['&/]\w|[-]\w)(?:\.(?=\s[a-z]|[,;:)]))?", _say_unit_alone)]
