"""Measures: numbers and ranges with a unit, a magnitude, a percent sign or degrees."""

from __future__ import annotations

import re

from voicegraft.text.english.numbers import NUMBER, SPACED, fraction_words, parse, plural
from voicegraft.text.english.tokens import Match, Piece, Rule, Said, after, before, pieces, rule
from voicegraft.text.english.words import table, word_set
from voicegraft.text.patterns import lazy

_UNITS = table("units")
_PER_WORDS = table("per") | _UNITS
_NO_NOUNS = word_set("no nouns")
_MAGNITUDES = {
    "k": "thousand", "m": "million", "mm": "million", "mn": "million", "mln": "million", "b": "billion", "bn": "billion",
    "bln": "billion", "t": "trillion", "tn": "trillion", "trn": "trillion",
}  # fmt: skip
MAGNITUDE = r"(?:hundred|thousand|million|billion|trillion|quadrillion|lakh|crore)"
AMOUNT = rf"(?:{SPACED}|{NUMBER})"
TO = r"[ \u00a0]?(?:--?|–)[ \u00a0]?"
PER = r"[ \u00a0]?/[ \u00a0]?(?P<per>[A-Za-zµΩ]{1,20})(?![\w/])"
# What may be a unit; the table says whether it is one.
_UNIT = r"(?:mm[ ]Hg\b|(?:ft|in)-lbs?\b|(?:(?:sq|cu|fl)\.?[ ])?[A-Za-zµΩ]{1,6})"
_POWER = r"(?:\^?[23](?!\d))"
_MEASURE = rf"{_UNIT}{_POWER}?(?:[/·][A-Za-zµΩ]{{1,10}}{_POWER}?){{0,3}}"
_MINUS = r"(?P<minus>-)?"
_RANGE = rf"(?P<first>{AMOUNT})(?:{TO}(?P<second>{AMOUNT}))?"
_STOP = r"(?:\.(?=\s|[,;:)]))?"
_DETERMINER = lazy(
    r"(?i)\b(?:an?|the|another|each|every|my|his|her|your|our|their|its|this|that|one|first)\ (?:[a-z]+\ )?$",
    re.VERBOSE,
)
_NOUN = lazy(r"[ -](?!-)([a-z]{2,})\b(?!\.[a-z])")
# What "in" after a number has to be followed by, to be no preposition.
_INCHES = lazy(
    r"\.?\s*(?:[),;:!?]|\.?$|(?:tall|wide|long|deep|high|thick|across|diameter|screen|x|by|[x×])\b|[x×]\s?\d)|\.(?=\s)"
)
_WORDS = frozenset(("in", "us", "ha", "ms", "min", "mi", "pt", "bit", "ct", "ac"))  # and words or names of their own
# A noun after these is what they describe.
_ADJECTIVES = frozenset(
    ("bit", "pk", "ft-lb", "W", "V", "A", "mAh", "Hz", "kHz", "MHz", "GHz", "MP", "px", "dpi", "hp", "kW", "Ω", "kΩ")
)
_SIDES = {"W": "wide", "D": "deep", "H": "high", "L": "long"}
_PRICED = word_set("priced")
_GEMS = lazy(r"(?i)\b(?:gold|diamonds?|rings?|gems?|stones?|jewel\w*|rub(?:y|ies)|sapphires?)\b")
_POINTS = lazy(r"\b(?:rebs?|asts?|rebounds|assists|scored|points|TDs?|game|win|lead)\b")
_PACKED = lazy(r"\)\ (?:pkgs?|cans?|jars?|box(?:es)?|packages?|bottles?|bags?|containers?|packets?)\b")
_MILLIONS = lazy(
    r"(?i)\b(?:populations?|people|users|votes|voters|viewers|copies|followers|subscribers|jobs|visitors|sales|households"
    r"|passengers|downloads|customers|patients|barrels)\b"
)
_DURATION = lazy(r"(?i)\b(?:prep|cook|bake|chill|total|active|duration|runtime|eta|read)\b|\d\ ?(?:h|hrs?)\b")
_OVEN = lazy(r"(?i)\b(?:ovens?|fan|gas|bake|roast|preheat\w*|grill|temp\w*|fever|highs?|lows?|degrees)\b")
_NAMED = lazy(
    r"(?i)\b(?:sizes?|sz\.?|routes?|rte\.?|hwy\.?|highway|bus|gate|seat|row|unit|apt\.?|exit|room)\ $", re.VERBOSE
)
_HOT = lazy(
    r"(?i)\b(?:temperatures?|surface|hot|cool|heat\w*|boil\w*|melt\w*|freez\w*|stars?|plasma|gas|absolute zero)\b"
)
_ELECTRIC = lazy(r"(?i)\b(?:fuse|circuit|breaker|current|draws?|volts?|\d\s?V|\d\s?W|watts?|charger|outlet)\b")


def describes(match: Match, is_hyphened: bool = False) -> bool:
    """Whether a quantity describes the noun that follows, and is said of one: a five dollar bill."""
    noun = _NOUN.match(after(match))
    if noun and noun[1] in ("bill", "bills", "note", "notes"):
        return True  # two $10 bills
    if noun is None or noun[1] in _NO_NOUNS or noun[1].endswith(("ly", "ed")):
        return False
    if noun[1] in _PRICED and re.search(r"(?i)\b(?:an?|the|his|her|its|their)\b[^;!?]{0,30}$", before(match)):
        return True
    determiner = _DETERMINER.search(before(match))
    return is_hyphened or bool(
        determiner and not re.search(r"(?i)\b(?:of|in|at|for|to|is|was|about)\ $", determiner[0])
    )


def say_magnitude(written: str | None) -> str:
    """`bn` is billion."""
    bare = (written or "").strip(" \u00a0-").lower()
    return _MAGNITUDES.get(bare, bare)


def say_per(unit: str | None) -> str:
    return f" per {_PER_WORDS.get(unit, unit)}" if unit else ""


def unit_words(measure: str, is_one: bool) -> str:
    """`m/s2` is meters per second squared, `mg/dL` milligrams per deciliter, `ft2` square feet."""
    if measure in _UNITS:
        return _power(measure, is_one)
    head, *tail = re.split(r"(?=[/·])", measure)
    words = _power(head, is_one)
    for part in tail:
        words += f" per {_power(part[1:], True)}" if part[0] == "/" else f" {_power(part[1:], is_one)}"
    return words


def is_unit(measure: str) -> bool:
    """Whether a table has all of its parts."""
    head, *tail = re.split(r"[/·]", re.sub(r"\^?[23]", "", measure))
    return measure in _UNITS or (head in _UNITS and all(part in _PER_WORDS for part in tail))


def _power(unit: str, is_one: bool) -> str:
    found = re.fullmatch(r"(.*?)\^?([23])", unit)
    name = _PER_WORDS[found[1] if found else unit]
    head, link, tail = re.fullmatch(r"(.*?)( per | of |$)(.*)", name).groups()  # type: ignore[union-attr]
    said = (head if is_one else plural(head)) + link + tail
    if not found:
        return said
    if head in ("second", "hour", "minute"):
        return f"{said} {'squared' if found[2] == '2' else 'cubed'}"
    return f"{'square' if found[2] == '2' else 'cubic'} {said}"


def _fits(match: Match, unit: str, is_spaced: bool) -> bool:
    """Whether the letters after a number are this unit, and no name, preposition, plural or sign of something else."""
    text, end = match.string, match.end("unit")
    tail = text[end : end + 40]
    if len(unit) == 1 and unit.isupper() and re.match(r"\.\ ?[A-Z\d]|\ [A-Z][a-z]|\ \d+(?:st|nd|rd|th)", tail):
        return False  # 742 N. Oak Rd.
    if len(unit) == 1 and unit.isupper() and _NAMED.search(before(match)):
        return False  # Route 9W
    if unit == "in":
        follows_feet = re.search(r"(?:ft\.?|feet|foot|')\ ?$", before(match))
        is_end = re.match(r"\s*$", tail) and is_spaced and not follows_feet
        return bool(match["hyphen"] or follows_feet or (_INCHES.match(tail) and not is_end))
    if unit in ("c", "t", "T"):  # of recipes
        return is_spaced and bool(re.match(r"\.?\ (?!of\b)[a-z]{3,}", tail))
    if unit == "A":
        return bool(_ELECTRIC.search(text))
    if unit == "K":
        return is_spaced and bool(_HOT.search(text))
    if unit in ("reb", "ast"):
        return bool(re.search(r"\b(?:pts|points|reb|ast)\b.*\b(?:pts|points|reb|ast)\b", text))
    if unit == "pm":
        return parse(match["first"]).value > 24
    if unit in ("tab", "tabs", "caps"):
        return bool(re.match(r"\.|\ (?:once|twice|q|po|PO|by mouth|daily|every)\b", tail))
    if unit == "F":
        return False  # 98.6 F is no capacity
    if unit == "U":
        return bool(re.match(r"\s+(?:of|SC|SQ|IV|IM|at|daily)\b|/", tail))
    if unit == "s":
        return is_spaced or "." in match["first"]  # 7s are sevens
    if unit == "us":
        return not is_spaced
    if unit == "ms":
        return not re.match(r"\.?\ [A-Z]", tail)
    return not (unit == "min" and re.match(r"\.?\ (?:and )?max\b", tail))


def is_millions(match: Match) -> bool:
    """Whether `1.2m` counts people or copies."""
    if re.match(r"\ (?:tall|wide|long|high|deep|away|from|above|below)\b", after(match)):
        return False
    return bool(_MILLIONS.search(match.string) or re.match(r"\ to\ \d{1,3},\d{3}", after(match)))


def _say_measure(match: Match) -> Said:
    groups = match.groupdict()
    first, last = parse(match["first"]), parse(groups.get("second") or match["first"])
    unit, number_end = match["unit"], match.end("second" if groups.get("second") else "first")
    if (
        not is_unit(unit)
        or not is_unit(groups.get("first_unit") or unit)
        or not _fits(match, unit, match.start("unit") > number_end)
    ):
        return None
    if unit == "pt" and re.match(r"\.?\ (?:font|type|text|size)", match.string[match.end("unit") :]):
        return f"{first.say()} point"
    if unit in ("pt", "pts") and _POINTS.search(match.string):
        return [Piece(first.say(), match.start(), number_end), Piece("points", match.start("unit"), match.end("unit"))]
    if unit == "ct" and not _GEMS.search(match.string):
        return [Piece(first.say(), match.start(), number_end), Piece("count", match.start("unit"), match.end("unit"))]
    glued = match.start("unit") == number_end
    if unit == "pt" and glued and first.value > 5:
        return f"{first.say()} point"  # 12pt type
    if unit == "m" and glued and is_millions(match):
        return None
    minus = "minus " if groups.get("minus") else ""
    is_one = (
        last.is_one
        or bool(groups.get("hyphen") or _PACKED.match(after(match)))
        or describes(match, unit in _ADJECTIVES)
    )
    if unit == "m" and glued and _DURATION.search(match.string):
        unit = "min"
    words = unit_words(unit, is_one) + say_per(groups.get("per"))
    if groups.get("first_unit"):
        return f"{minus}{first.say()} {unit_words(match['first_unit'], first.is_one)} to {last.say()} {words}"
    falls = last.value < first.value - 99 and "+" in match.string
    link = "minus" if falls else "to"  # 9279-647 kJ
    number = minus + first.say() + (f" {link} {last.say()}" if groups.get("second") else "")
    if groups.get("big"):
        number += f" {say_magnitude(groups['big'])}"
        number_end = match.end("big")
    stop = match.end("per") if groups.get("per") else match.end("unit")
    if match.group().endswith(".") and match.string[match.end() :].strip(" \"')]"):
        stop = match.end()
    return [Piece(number, match.start(), number_end), Piece(words, match.start("unit"), stop)]


def _say_unit_alone(match: Match) -> Said:
    """After a fraction, a power or a percent sign: `1/4 tsp`, `10^8 m/s`."""
    ahead = before(match)
    if ahead.endswith("(") and after(match).startswith(")") and "/" in match["unit"] and is_unit(match["unit"]):
        return unit_words(match["unit"], False)  # a speed (km/h)
    fraction = re.search(r"(?:(\d)\ )?(\d{1,3})/(\d{1,3})\s*-?$", ahead)
    if re.search(r"\b(?:per|a)\ $|[a-z]/$|^/$", ahead) and len(match["unit"]) > 1 and ahead.rstrip(" /")[-2:] != " a":
        return unit_words(match["unit"], True) if is_unit(match["unit"]) and match["unit"] not in _WORDS else None
    if not fraction and not re.search(r"\d\^-?\d+\ $", ahead):
        return None
    if match["unit"] in ("in", "us") and not _INCHES.match(after(match)):
        return None
    if not is_unit(match["unit"]):
        return None
    is_part = bool(fraction and not fraction[1] and int(fraction[2]) < int(fraction[3]))
    return unit_words(match["unit"], is_part or ahead.endswith("-"))


def _say_percent(match: Match) -> Said:
    words = ("minus " if match["minus"] else "") + parse(match["first"]).say()
    if match["second"]:
        falls = match["inner"] and parse(match["second"]).value < parse(match["first"]).value
        words += f" {'percent minus' if falls else 'to'} {parse(match['second']).say()}"
    return f"{words} {'percent' if match['unit'] == '%' else 'per mille'}"


def _say_degrees(match: Match) -> Said:
    """`72°F`, `20-25 °C`, `40°26'46"N`."""
    first, second = parse(match["first"]), match["second"]
    minus = "minus " if match["minus"] else ""
    words = minus + first.say()
    if second:
        words += f" to {'minus ' if match['last_minus'] else ''}{parse(second).say()}"
    is_one = (parse(second) if second else first).is_one and not minus
    is_one = is_one or (not (match["scale"] or match["arc_minute"]) and describes(match))
    words += f" {'degree' if is_one else 'degrees'}"
    words += {"C": " Celsius", "F": " Fahrenheit", "K": " Kelvin"}.get(match["scale"] or "", "")
    for unit, group in (("minute", "arc_minute"), ("second", "arc_second")):
        if match[group]:
            number = parse(match[group])
            words += f" {number.say()} {unit if number.is_one else unit + 's'}"
    pole = {"N": " north", "S": " south", "E": " east", "W": " west"}.get(match["pole"] or "", "")
    return words + pole


def _say_oven(match: Match) -> Said:
    """`180C fan`, `highs of 45 F`."""
    if not _OVEN.search(match.string):
        return None
    words = f"{'minus ' if match['minus'] else ''}{parse(match['first']).say()}"
    words += f" to {parse(match['second']).say()}" if match["second"] else ""
    return f"{words} degrees {'Celsius' if match['scale'] == 'C' else 'Fahrenheit'}"


def _say_feet(match: Match) -> Said:
    """`6'2"`, `6ft2`, `5 ft 2 in`, `5' 7 1/2"`: six foot two."""
    words = f"{parse(match['feet']).say()} foot {parse(match['inches']).say()}"
    if match["over"]:
        words += f" and {fraction_words(int(match['over']), int(match['under']), mixed=True)}"
    return words + (" inches" if (match["word"] or "").startswith("in") else "")


def _is_minute(match: Match) -> bool:
    """Of a match: `(Kane 12', 90+3')`."""
    ahead = match.string[: match.start()]
    return bool(
        re.search(r"\([^()]*[A-Z][a-z]+[^()]*$", ahead)
        and re.search(r"\d\s?[-–]\s?\d|\b(?:pen|og|goals?)\b", match.string)
    ) or bool(re.match(r"\ (?:minute|[Gg]oal|GOAL)\b", after(match)) or re.search(r"\b(?:45|90)\+$", before(match)))


def _say_marks(match: Match) -> Said:
    """`12' x 15'`, `12" ruler`; after an open quotation a mark closes it."""
    number, mark, text = parse(match["first"]), match["mark"], match.string[: match.start()]
    opened = re.findall(rf"(?<![A-Za-z0-9]){mark}", text)
    closed = re.findall(rf"(?<![\s\d(]){mark}(?![A-Za-z])", text)
    if len(opened) > len(closed):
        return None
    name = "foot" if mark == "'" else "inch"
    if match["side"]:
        return f"{number.say()} {name if number.is_one else plural(name)} {_SIDES[match['side']]}"
    if mark == "'" and _is_minute(match):
        return number.say()
    noun = re.match(r"(?:\s?[x×]\s?[\d.]+['\"])?[ -](?!-)([A-Za-z]{2,})\b", after(match))
    is_one = number.is_one or (noun is not None and noun[1] not in _NO_NOUNS)
    return f"{number.say()} {name if is_one else plural(name)}"


def _say_versus(match: Match) -> Said:
    first, second = parse(match["first"]), parse(match["second"])
    return pieces(match, ("first", first.say()), ("v", "versus"), ("second", second.say()))


def _say_big(match: Match) -> Said:
    """`5M users`, `10k`, `2-3 million`; 10K alone is a race and 4B a flat."""
    big = match["big"]
    if big == "m" and not is_millions(match):
        return None
    if big in ("mm", "MM", "b", "t") or (
        big in ("K", "T", "B", "M") and not re.match(r" [a-z]+s\b| people\b", after(match))
    ):
        return None
    words = ("minus " if match["minus"] else "") + parse(match["first"]).say(" ")
    if match["second"]:
        words += f" to {parse(match['second']).say(' ')}"
    return f"{words} {say_magnitude(big)}"


RULES: list[Rule] = [
    rule(r"(?P<first>\d{1,3})[- ]?y/?o\b\.?(?!\w)", lambda m: f"{parse(m['first']).say()} year old"),
    rule(
        r"(?P<feet>\d{1,3})\s?(?:'|-?ft\.?|feet)\s?(?P<inches>\d{1,2}(?:\.\d)?)(?:[ -]?(?P<over>[1357])/(?P<under>2|4|8|16))?"
        r"\s?(?P<word>\"|''|in\b\.?(?=\s?(?:$|[\w)(,;])|$)|inch(?:es)?\b)?(?![\w'/])(?!,\d|\.\d)",
        _say_feet,
    ),
    rule(
        rf"{_MINUS}{_RANGE}(?P<big>\ {MAGNITUDE}\b|\ ?[bm]n(?=\ )|[kKMB](?=[ ][a-z]))?[ \u00a0]?(?P<hyphen>-)?"
        rf"(?P<unit>{_MEASURE})\b{_STOP}(?:{PER})?"
        r"(?!['&]\w|-\d|\.\w|/(?!\$)|[\^+=]|·)",
        _say_measure,
    ),
    rule(
        rf"{_MINUS}(?P<first>{AMOUNT})[ ]?(?P<first_unit>{_UNIT})\b\.?{TO}(?P<second>{AMOUNT})[ ]?(?P<hyphen>-)?"
        rf"(?P<unit>{_MEASURE})\b(?![/^+=])",
        _say_measure,
    ),
    rule(
        rf"{_MINUS}(?P<first>{AMOUNT})[ ]?(?P<inner>%)?(?:{TO}(?P<second>{AMOUNT}))?[ \u00a0]?(?P<unit>[%‰])",
        _say_percent,
    ),
    rule(
        rf"{_MINUS}(?P<first>{AMOUNT})(?:°\s?[CF]?)?(?:\s?(?:–|-|to)\s?(?P<last_minus>-)?(?P<second>{AMOUNT}))?[ \u00a0]?°"
        r"(?:[ \u00a0]?(?P<scale>[CFK]\b))?(?:\s?(?P<arc_minute>\d{1,2}(?:\.\d+)?)')?"
        r"(?:\s?(?P<arc_second>\d{1,2}(?:\.\d+)?)(?:\"|''))?"
        r"(?:\s?(?P<pole>[NSEW])\b)?",
        _say_degrees,
    ),
    rule(
        rf"{_MINUS}(?P<first>\d{{2,3}}(?:\.\d)?)(?:{TO}(?P<second>\d{{2,3}}(?:\.\d)?))?[ ]?(?P<scale>[CF])(?![\w'])",
        _say_oven,
    ),
    rule(r"(?P<first>\d{1,4}(?:\.\d{1,3})?)(?P<mark>'|\")(?P<side>[WDHL](?!\w))?(?![\w'\"])", _say_marks),
    rule(r"(?P<first>\d{1,3})[ ]?(?P<v>v|vs)\.?[ ]?(?P<second>\d{1,3})(?!\w)", _say_versus),
    rule(rf"{_MINUS}{_RANGE}(?P<big>[ -]{MAGNITUDE}\b|(?:[kKmMbBtT]|MM|mm|mn|mln|bn|Bn|tn)(?![\w$]))", _say_big),
]
UNIT_RULES: list[Rule] = [rule(rf"(?P<unit>{_MEASURE})\b(?!['&/]\w|-\w)(?:\.(?=\s[a-z]|[,;:)]))?", _say_unit_alone)]
