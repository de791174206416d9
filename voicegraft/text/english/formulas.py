"""Formulas as people write them: functions, bars, products of letters, ions, units below the line, doses."""

from __future__ import annotations

import re

from voicegraft.text.english.numbers import cardinal, parse
from voicegraft.text.english.tokens import Match, Piece, Rule, Said, after, before, one_of, pieces, rule
from voicegraft.text.english.words import table, word_set
from voicegraft.text.patterns import lazy

_UNITS = table("per") | table("units")
SYMBOL = re.compile(r"\bsymbol\b")
_ELEMENTS = rf"(?:{one_of(word_set('elements'))})"
_COUNT = r"(?:_\{\d{1,2}\}|_?\d{1,2})"  # how many: CO_{2}
_FUNCTIONS = table("functions")
_SIGNS = lazy(r"[=+^*<>×]|\b(?:at most|at least|is not equal to|union|intersection)\b")
_TERM = r"-?(?:\d+(?:\.\d+)?[a-z]?|[A-Za-z]{1,2})(?:\^-?\w)?"
_SUM = rf"{_TERM}(?:\ *(?:[-+*/|,]|\bunion\b|\bintersection\b|\bin\b)\ *{_TERM})*"
_VARIABLE = lazy(r"(?<![A-Za-z'])[a-z]\^|(?<![A-Za-z'])[xyn]\ ?[-+=]|[-+=]\ ?\d*[xyn](?![A-Za-z])")
_COUNTS = lazy(r"(?<!\band)(?<!\bor)(?<!\bof)(?<!\bis)(?<!\bby)(?<!\blet)(?<!\bfor)(?<=[a-zA-Z]{2})\ $", re.VERBOSE)
_EVERY = {"h": "hour", "hr": "hour", "hrs": "hour", "d": "day", "min": "minute", "wk": "week"}


def looks_like_maths(text: str) -> bool:
    return bool(_SIGNS.search(text))


def _say_function(match: Match) -> Said:
    """`f(x)`, `f'(-1)`, `P(A | B)`: what closes the bracket is a comma."""
    return f"{match['name']}{' prime' * len(match['prime'])} of"


def _say_value(match: Match) -> Said:
    value = match["value"]
    return f"{_say_function(match)} {cardinal(value) if value.isdigit() else value}"


def _say_named(match: Match) -> Said:
    """`sin 30°`, `cos(x)`, `log x`."""
    if not match["bracket"] and not (looks_like_maths(match.string) or "°" in match.string):
        return None
    return _FUNCTIONS[match["name"]] + (" of" if match["bracket"] else "")


def _say_bar(match: Match) -> Said:
    return "absolute value of" if looks_like_maths(match.string) else None


def _say_factorial(match: Match) -> Said:
    first = match["first"]
    return f"{parse(first).say() if first.isdigit() else first} factorial"


def _say_product(match: Match) -> Said:
    """`4ac` among variables."""
    letters = match["letters"]
    is_unit = letters in _UNITS and letters != "ac" and len(letters) > 1
    if is_unit or not _VARIABLE.search(match.string) or not re.search(r"[-+=*/(<>,]\ ?$", before(match)):
        return None
    return pieces(match, ("number", cardinal(match["number"])), ("letters", " ".join(letters.upper())))


def _say_ion(match: Match) -> Said:
    """`Na+`, `Ca2+`, `NO2-`, `SO4 2-`: letter by letter, and the charge."""
    formula, charge = match["formula"], match["charge"]
    is_ion = re.search(r"[a-z\d]|OH|CN|NO|HS", formula) or re.match(r"\]|\ (?:ions?|channels?|pumps?)\b", after(match))
    if not is_ion or re.fullmatch("AB|[A-F]", formula):
        return None
    number = f" {cardinal(charge[:-1].strip())}" if charge[:-1] else ""
    return f"{_spell(formula)}{number} {'plus' if charge.endswith('+') else 'minus'}"


def _spell(formula: str) -> str:
    """Letters that stand together stay together; brackets and braces are silent."""
    return " ".join(
        cardinal(part) if part.isdigit() else part.upper() for part in re.findall(r"\d+|[A-Za-z]+", formula)
    )


def _say_blood(match: Match) -> Said:
    """`O-` of blood."""
    if not re.search(r"(?i)\b(?:blood|donors?|rh)\b", match.string):
        return None
    return f"{'Ay' if match['type'] == 'A' else match['type']} {'positive' if match['sign'] == '+' else 'negative'}"


def _say_below(match: Match) -> Said:
    """`mol^-1`, `s^-2`."""
    unit = _UNITS.get(match["unit"])
    if unit is None or (len(match["unit"]) == 1 and "=" in match.string):
        return None
    power = {"1": "", "2": "square ", "3": "cubic "}[match["power"]]
    if power and unit == "second":
        return f"per second {'squared' if match['power'] == '2' else 'cubed'}"
    return f"per {power}{unit}"


def _say_every(match: Match) -> Said:
    """`q4-6h`: every four to six hours."""
    until = f" to {cardinal(match['until'])}" if match["until"] else ""
    is_one = match["number"] == "1" and not until
    unit = _EVERY[match["unit"]]
    return f"every {unit}" if is_one else f"every {cardinal(match['number'])}{until} {unit}s"


def _say_for(match: Match) -> Said:
    """`x3 days`."""
    return [Piece(f"times {cardinal(match['number'])}", match.start(), match.end())]


NUMBER_RULES: list[Rule] = [
    rule(r"(?P<first>\d{1,3})!(?=\s?[-+=*/×)÷])", _say_factorial),
    rule(r"(?P<number>\d{1,2})(?P<letters>[a-z]{2,3})(?![\w.'])", _say_product),
]
LETTER_RULES: list[Rule] = [
    rule(r"(?P<name>[fghFGHPp])(?P<prime>'{0,2})\((?P<value>[a-z]|\d)\)(?=\s?[-=+*/<>]|\s|[.,;?]|$)", _say_value),
    rule(
        r"(?P<name>[fgh])(?P<prime>'{0,2})\ \((?P<value>[a-z]|\d)\)",
        lambda m: _say_value(m) if looks_like_maths(m.string) else None,
    ),
    rule(rf"(?P<name>[fghFGHPE])(?P<prime>'{{0,2}})\((?={_SUM}\))", _say_function),
    rule(
        rf"(?P<name>{one_of(_FUNCTIONS)})"
        rf"(?:(?P<bracket>\((?={_SUM}\)))|(?=\^|\ ?\d|\ (?:theta|alpha|beta|phi|[a-z])(?![a-z'])))",
        _say_named,
    ),
    rule(r"(?P<first>[kmnx])!(?=\s?[-+=*/×)÷]|\s[a-z]{2,})", _say_factorial),
    rule(rf"(?P<formula>(?:{_ELEMENTS}\d?){{1,5}}?)(?P<charge>(?:\ ?\d)?[-+])(?=[\s\](),.;]|$)", _say_ion),
    rule(rf"(?=\w*[a-z])(?=\w*\d)(?:{_ELEMENTS}\d{{0,2}}){{2,8}}(?!\w)", lambda m: _spell(m.group())),
    rule(
        rf"(?=[A-Z][a-z]){_ELEMENTS}(?![\w'])",
        lambda m: " ".join(m.group().upper()) if SYMBOL.search(before(m)) else None,
    ),
    rule(
        rf"(?=[\w()]*_\{{?\d)(?:{_ELEMENTS}{_COUNT}?|\((?={_ELEMENTS})|\){_COUNT}){{1,16}}(?!\w)",
        lambda m: _spell(m.group()),
    ),
    rule(r"(?P<name>[fgh])(?P<prime>'{0,2})\((?=[fgh]'{0,2}\()", _say_function),
    rule(r"(?P<type>AB|[ABO])(?P<sign>[-+])(?=[\s.,;)]|$)", _say_blood),
    rule(r"(?P<unit>[A-Za-zµ]{1,4})\^-(?P<power>[123])(?!\d)", _say_below),
    rule(
        r"q\.?\ ?(?P<number>\d{1,2})(?:\ ?[-–]\ ?(?P<until>\d{1,2}))?\ ?(?P<unit>h|hrs?|d|min|wk)\b\.?(?!\w)",
        _say_every,
        re.IGNORECASE,
    ),
    rule(r"x(?P<number>\d{1,2})(?=[,.;)]|$)", lambda m: _say_for(m) if _COUNTS.search(before(m)) else None),
    rule(r"x\ ?(?P<number>\d{1,3})(?=\ (?:days?|weeks?|months?|hours?|hrs?|doses|sets|reps)\b)", _say_for),
]
SIGN_RULES: list[Rule] = [
    rule(r"\|(?=[^()]*\))", lambda m: "given" if re.search(r"\bP\([^()|]*$", before(m)) else None),
    rule(rf"\|(?={_SUM}\|)", _say_bar),
]
