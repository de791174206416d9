"""Signs: arithmetic, arrows, dashes, slashes, and what is left of programs and formulas."""

from __future__ import annotations

import re

from voicegraft.text.english import formulas
from voicegraft.text.english.figures import is_difference
from voicegraft.text.english.numbers import NUMBER, cardinal
from voicegraft.text.english.tokens import Match, Rule, Said, after, before, one_of, rule
from voicegraft.text.english.words import table, word_set
from voicegraft.text.patterns import lazy

_COMMANDS = table("commands")
_PER = table("per") | table("units")
# Words for signs that nothing else explains.
NAMES = {
    "&": "and", "%": "percent", "@": "at", "+": "plus", "=": "equals", "°": "degrees", "$": "dollar", "£": "pound",
    "€": "euro", "¥": "yen", "₩": "won", "₹": "rupee", "₽": "ruble", "₺": "lira", "₴": "hryvnia", "₦": "naira", "₫": "dong",
    "₱": "peso", "₪": "shekel", "฿": "baht", "₿": "bitcoin", "¢": "cent", "×": "times", "·": "times", "#": "hash",
    "/": "slash", "\\": "backslash", "<": "less than", ">": "greater than", "^": "to the power of", "_": "underscore",
    "µ": "mu", "Ω": "ohms",
}  # fmt: skip
_LEFT = lazy(
    rf"(?:(?P<number>{NUMBER})|\)|(?P<letter>(?<![A-Za-z'])(?:\d+)?[A-Za-z](?:\^-?\w)?)|\^-?\d+)\ ?$", re.VERBOSE
)
_RIGHT = lazy(rf"\ ?(?:(?P<number>{NUMBER})|\(|\d*(?P<letter>[A-Za-z])(?![A-Za-z'.]))", re.VERBOSE)
_EQUATION = lazy(r"[=+×*/^÷<>]\s?[\w().\s^-]*$")
_RESULT = lazy(r"\s?[\w.,()^]+(?:\s?[-+×*/^÷]\s?[\w.,()^]+)*\s?(?:=|is\b|equals\b)")
_NAMED = r"(?:Jan|Feb|Mar|Apr|May|June?|July?|Aug|Sept?|Oct|Nov|Dec|Mon|Tues?|Wed|Thu|Thurs?|Fri|Sat|Sun)[a-z]*\.?"
_NAMED_LEFT = lazy(
    rf"\b{_NAMED}(?:\ \d{{1,2}}(?:st|nd|rd|th)?)?\s?$"
    r"|\b(?:BCE?|AD|CE)\s?$"
    r"|'\d\d\s?$|\d(?:st|nd|rd|th|['’]?s)\s?$|\b(?:\d\ ?(?:[ap]m|AM|PM)|m\.|noon|midnight)\s?$|\d,?\ \d{4}\s?$",
    re.VERBOSE,
)
_NAMED_RIGHT = lazy(rf"\s?(?:{_NAMED}(?![a-z])|(?:AD\ )?'?\d|noon|midnight|present|Present|now)", re.VERBOSE)
_DAY_LEFT = lazy(r"\b(?:Mon|Tues?|Wed|Thu|Thurs?|Fri|Sat|Sun)(?:[a-z]*day)?s?\.?\ $", re.VERBOSE)
_HOUR = r"(?:\d{1,2}(?::\d\d)?(?:\ ?[ap]\.?m\.?)?|noon|midnight)"
_HOURS_RIGHT = lazy(rf"\ {_HOUR}(?:\ to\ |\ ?[-–]\ ?){_HOUR}", re.VERBOSE)
_NUMERAL_LEFT = lazy(r"(?i)\b(?:pages|pp|chapters|volumes|vols|books|parts|acts|articles|sections)\.?\ [ivxlc]+\ ?$")
_NUMERAL_RIGHT = lazy(r"(?i)\ ?[ivxlc]+\b")
_VALUES = lazy(r"\.?\d|[$£€¥₩₹]\.?\d|(?:[a-z]|pi)(?![A-Za-z'])|\(")
_OPTION_CUE = lazy(rf"(?i)\b(?:{one_of(word_set('option cues'))})\ ['\"]?$", re.VERBOSE)
_OPENS_VALUE = lazy(r"(?:^|[\s(\[{=<>^*/×+,.:;?!%°$£€&@\"'|])$")


def _say_dash(match: Match) -> Said:
    run, text = match.group(), match.string
    if _NUMERAL_LEFT.search(before(match)) and _NUMERAL_RIGHT.match(after(match)):
        return "to"  # pages iv-xi
    left, right = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
    ahead, behind = before(match), after(match)
    first, last = re.search(r"(?<!\w)([IVX]+)\ ?$", ahead), re.match(r"\ ?([IVX]+)(?!\w)", behind)
    if first and last and len(first[1] + last[1]) > 2:
        return "to"  # V-VII
    if re.search(r"\d/\d{1,2}\ ?$", ahead) and re.match(r"\ ?(?:\d\ )?\d{1,2}/\d", behind) and "=" not in text:
        return "to"  # 1/2-3/4 cup
    if re.search(r"\b(?:UTC|GMT)$", ahead) and right.isdigit():
        return "minus"
    if re.search(r"(?<![\w'])(?:X{0,3}[SL]|M)$", ahead) and re.match(r"(?:X{0,3}[SL]|M)(?![\w'])", behind):
        return "to"  # sizes
    if len(run) == 1 and right and not right.isspace() and _OPENS_VALUE.search(ahead) and _VALUES.match(behind):
        operand = left.isspace() and _LEFT.search(ahead)
        is_value = (
            behind[0] in "$£€¥₩₹.0123456789"
            or operand
            or _OPENS_VALUE.search(ahead.rstrip()[-1:])
            or re.match(r"\w+\s?[=+*/^×)]|\w+$", behind)
        )
        if is_value and not (run == "–" and operand and operand["number"]):
            return "minus"
    if _DAY_LEFT.search(ahead) and _HOURS_RIGHT.match(behind):
        return ","  # Mon to Thu – 11 a.m. to 6 p.m.
    if len(run) == 1 and _is_range(ahead, behind):
        return "to"
    if len(run) == 1 and _is_minus(ahead, behind, left):
        return "minus"
    if run == "-" and left.isalnum() and right.isalnum():
        return "-"
    if re.search(r"(?<![\w'])[A-D]$", ahead) and run == "-" and re.match(r"[\s.,;!?]|$", behind):
        return "minus"
    if (
        run == "-"
        and (left.isalnum() or right.isalnum())
        and not (left.isspace() or right.isspace())
        and left
        and right
    ):
        return []
    return ","


def _is_range(ahead: str, behind: str) -> bool:
    if _NAMED_LEFT.search(ahead) and _NAMED_RIGHT.match(behind):
        return True
    left, right = _LEFT.search(ahead), _RIGHT.match(behind)
    if not (left and right and left["number"] and right["number"]) or not ahead.endswith(" "):
        return False
    return not is_difference(left["number"], right["number"], ahead[: left.start()], behind[right.end() :])


def _is_minus(ahead: str, behind: str, left_char: str) -> bool:
    left, right = _LEFT.search(ahead), _RIGHT.match(behind)
    if not left or not right:
        return False
    spaced = left_char.isspace()
    if spaced != behind.startswith(" "):
        return spaced and bool(left["number"])
    if left["letter"] or right["letter"]:
        letters = [part[-1] if part[-1].isalpha() else part[0] for part in (left["letter"], right["letter"]) if part]
        if spaced:
            return all(letter.islower() for letter in letters) or bool(_EQUATION.search(ahead) or _RESULT.match(behind))
        is_grouped = re.search(r"[({]\d*[a-z]?$", ahead) and re.match(r"[\da-z]+[)}]", behind)
        if is_grouped and not spaced and formulas.looks_like_maths(ahead + behind):
            return True  # (x-p)(x-q) = 0
        if left["letter"] and re.fullmatch(r"\d+[nxyzkmij]", left["letter"]) and right["number"]:
            return True  # 4x-13
        lower_first = bool(left["letter"]) and left["letter"][-1].islower() and not left["letter"][:-1]
        return bool(
            _EQUATION.search(ahead)
            or re.match(r"\s?[\w.]+\s?=", behind)
            or (lower_first and right["number"] and len(right["number"]) < 2 and left["letter"] in "nxyzkmij")
        )
    if left["number"] and right["number"]:
        return spaced or bool(
            re.match(r"[\d.,]+(?:\s?[-+×*/]\s?[\d.,]+)*\s?=", behind)
            or _EQUATION.search(ahead)
            or re.search(r"(?i)\b(?:what(?:'s| is)|compute|calculate|solve|evaluate)\s[\d.,]+$", ahead)
        )
    return True  # beside a bracket


def _say_power(match: Match) -> Said:
    power = match["power"]
    if power in ("2", "3") and not re.match(r"\.\d", after(match)):
        return "squared" if power == "2" else "cubed"
    if power.startswith("-"):
        to = "to the minus" if before(match).endswith("10") else "to the power of minus"
        return f"{to} {cardinal(power[1:]) if power[1:].isdigit() else power[1:]}"
    return f"to the power of {cardinal(power) if power.isdigit() else power}"


def _say_slash(match: Match) -> Said:
    ahead, behind = before(match), after(match)
    unit = re.match(r"([A-Za-z]+)(?!\w)", behind)
    if ahead.endswith(" ") and behind.startswith(" ") and re.match(r" \(?[\d.$]", behind):
        is_sum = re.search(r"[\d)]\ $|(?<![\w'])[a-z]\ $", ahead) or "=" in behind
        return "divided by" if is_sum and not re.match(r"\ [\d.,]+\ ?(?:[AP]M\b|[ap]\.?m\b|[CF°])", behind) else ","
    if ahead.endswith(")") and behind[:1].isdigit():
        return "over"
    if re.search(r"(?<![\w'])[nxyz]$", ahead) and behind[:1].isdigit():
        return "over"
    if re.search(r"\^\d$", ahead) and unit and len(unit[1]) == 1 and "=" in match.string:
        return "over"
    if (re.search(r"\d,\d{3}$", ahead) and behind[:1].isdigit()) or (
        re.search(r"\d$", ahead) and re.match(r"[\d,.]+\s?=", behind)
    ):
        return "divided by"
    if re.search(r"\dx$", ahead) and unit and unit[1] in _PER:
        return "per"  # 2x/day
    if ahead[-1:].isalnum() and behind[:1] == "$":
        return "for"  # 2/$10
    if re.search(r"\d$", ahead) and unit and len(unit[1]) > 3 and unit[1].islower():
        return "per"  # 4/customer
    if (
        re.search(r"\d[\w ,.]{0,20} [a-z]{2,}(?:s|feet)$", ahead)
        and unit
        and len(unit[1]) > 2
        and unit[1].islower()
        and not unit[1].endswith("s")
    ):
        return "per"  # 5 gallons/horse
    if re.search(r"(?i)\band$", ahead) and behind.startswith("or"):
        return []
    if re.search(r"(?<![\w/.])1$", ahead) and unit and len(unit[1]) == 1:
        return "per"
    if re.search(r"(?i)\b(?:s?he|his|him|her|yes|true|on|mother|father|boy|mom)$", ahead) and unit and len(unit[1]) > 1:
        return "or"
    if (
        unit
        and unit[1] in _PER
        and (re.search(r"[a-z]{3}$|\d$", ahead) and (len(unit[1]) > 1 or unit[1] in "hs" or ahead[-1].isdigit()))
        and re.search(r"\d\D{0,12}$", ahead)
    ):
        return "per"
    if (
        unit
        and re.search(r"[a-z]{3}$", ahead)
        and unit[1] in ("h", "hr", "hour", "s", "sec", "second", "min", "minute", "day", "week", "month", "year")
    ):
        return "per"
    if (
        re.search(r"\)$|(?<![A-Za-z])[a-z]$", ahead)
        and re.match(r"\d|\(|[a-z](?![a-z])", behind)
        and _looks_like_maths(match.string)
    ):
        return "over"
    if re.search(r"\d$", ahead) and re.match(r"[a-z](?![A-Za-z])|\(", behind) and _looks_like_maths(match.string):
        return "over"
    return "slash"


def _looks_like_maths(text: str) -> bool:
    return bool(re.search(r"[=+^*]", text))


def _say_per_unit(match: Match) -> Said:
    """`12/kg`."""
    unit = _PER.get(match["unit"], match["unit"])
    return f"per {unit}"


def _say_star(match: Match) -> Said:
    ahead, behind = before(match), after(match)
    if ahead.endswith(" ") and behind.startswith(" ") and "=" in match.string:
        return "times"
    if re.search(r"[a-z]$", ahead) and re.match(r"\d", behind):
        return "times"  # 7 days*2
    operand = re.search(r"(?:[\d)\]]|(?<![A-Za-z'*])[A-Za-z])\s?$", ahead)
    right = re.match(r"\s?-?(?:[$£€]?\.?\d|\(|[A-Za-z](?![A-Za-z']))", behind)
    if match.group() == "**":
        return None
    if operand and right and ahead.endswith(" ") == behind.startswith(" "):
        return "times"
    return "asterisk" if re.search(r"\w\ $", ahead) and re.match(r"\ \w", behind) else []


def _say_by(match: Match) -> Said:
    """`2x4`, `12' x 15'`, `3 × 4 m`; times before a power of ten or in an equation."""
    ahead, behind = before(match), after(match)
    in_sum = re.match(r"\s?10\^|\s?[\d.,()]+\s?(?:[=+×*/^÷]|-(?![a-z]))|\s?[\d.,]+\s=", behind) or _EQUATION.search(
        ahead
    )
    number = re.search(r"(?:[\d'\"]|[\"'][WDHL]|\d\s?(?:[mck]?m|in|ft|inches|feet|yd)\.?)\s?$", ahead) and re.match(
        r"\s?\.?\d", behind
    )
    if match.group() == "×":
        return "by" if number and not in_sum else "times"
    is_even = ahead.endswith(" ") == behind.startswith(" ") or re.search(r"\d $", ahead)
    if not number or not is_even or re.search(r"\b0$", ahead):
        return None
    return "times" if in_sum else "by"


def _say_compare(match: Match) -> Said:
    sign, ahead, behind = match.group(), before(match), after(match)
    if sign == ">" and re.search(r"\b[A-Z][\w-]*\ $", ahead) and re.match(r"\ [A-Z]", behind):
        return "to"
    return NAMES[sign]


def _say_long_option(match: Match) -> Said:
    """`--emit`; no dash that another one answers."""
    opens = re.search(r"\s[\"'(\[]?$", before(match)) or (not before(match) and re.match(r"\w+[-=]\w", after(match)))
    return "dash dash" if opens and not re.search(r"\w--|--\s", after(match)) else None


def _say_option(match: Match) -> Said:
    """`use -v`; no bullet and no minus."""
    return "dash" if _OPTION_CUE.search(before(match)) else None


def _say_dollar(match: Match) -> Said:
    """The signs around a formula are silent: `$x^2$`."""
    text = match.string
    opens = re.match(r"[A-Za-z\\(][^$]{0,200}(?<=[\w)}])\$(?![\w$])", text[match.end() :])
    closes = re.search(r"(?<![\w$])\$[A-Za-z\\(](?:[^$]{0,200}[\w)}])?$", text[: match.start()])
    return [] if opens or closes else "dollar"


def _say_brace(match: Match) -> Said:
    """The braces of a fraction: `\\frac{1}{2}`."""
    ahead = before(match)
    if ahead.endswith("_") or re.search(r"_\{[^{}]*$", ahead):
        return []  # of an index
    if match.group() == "}{" and re.search(r"\\frac\{[^{}]*$", ahead):
        return "over"
    if ahead.endswith((r"\frac", r"\sqrt")) or re.search(r"\\(?:frac\{[^{}]*\}|sqrt)\{[^{}]*$", ahead):
        return []
    return None


def _say_command(match: Match) -> Said:
    name = match["name"]
    return _COMMANDS.get(name, name)


def _say_name(match: Match) -> Said:
    return NAMES[match.group()]


RULES: list[Rule] = [
    *formulas.SIGN_RULES,
    rule(
        r"\*(?=\d{2,3}(?:[\s,.;\#)]|$))",
        lambda m: "star" if re.search(r"(?i)\b(?:dial|press|enter|code|call)\ $", before(m)) else None,
    ),
    rule(r"&c\b\.?", lambda m: "etcetera"),
    rule(r"\+/-", lambda m: "plus or minus"),
    rule(r"--(?=[a-z][a-z0-9]+(?:[-=][\w-]+)*)", _say_long_option),
    rule(r"-(?=[A-Za-z](?![\w'-]))", _say_option),
    rule(r"<[-=]{1,2}>", lambda m: "to"),
    rule(r"(?:<?[-=~–]{1,3}>)(?=\s|$)(?<!<->)|(?<=\s)(?:[-=~–]{1,3}>)", lambda m: "to"),
    rule(r"<-+(?=\s)", lambda m: "from" if before(m).endswith(" ") else None),
    rule(r"(?<=\w)->(?=\w)", lambda m: "dot"),
    rule(r"\^\s?(?P<power>-?\d{1,9}|-?[A-Za-z](?![A-Za-z]))", _say_power),
    rule(r"\*\*(?P<power>\d{1,9})", lambda m: _say_power(m) if re.search(r"\d$|\b[a-z]$", before(m)) else None),
    rule(r"!==?", lambda m: "is not equal to" if re.search(r"[\w)\]]\s?$", before(m)) else None),
    rule(r"<=(?!>)", lambda m: "at most"),
    rule(r">=", lambda m: "at least"),
    rule(r"\+=", lambda m: "plus equals"),
    rule(r"===?(?![=>])", lambda m: "equals"),
    rule(r"={2,}(?![=>])|={4,}|-{4,}|\*{3,}|_{3,}|~{3,}|\#{3,}|\+{4,}", lambda m: ","),
    rule(r"&&(?=\s)", lambda m: "and"),
    rule(r"\|\|(?=\s)", lambda m: "or"),
    rule(r"\|(?=\s|$)|(?<=\s)\|", lambda m: ","),
    rule(r"//+|/\*+|\*+/", lambda m: ","),
    rule(r"[-–]+", _say_dash),
    rule(r"[×]|x(?![A-Za-z])", _say_by),
    rule(r"\*{1,2}", _say_star),
    rule(
        r"/(?P<unit>[a-z]{1,3}|m?[lL])(?![\w])",
        lambda m: _say_per_unit(m) if m["unit"] in _PER and re.search(r"\d$", before(m)) else None,
    ),
    rule(r"/", _say_slash),
    rule(r"[<>](?![<>])", _say_compare),
    rule(r"\$", _say_dollar),
    rule(r"\}\{|\{|\}", _say_brace),
    rule(r"\\frac(?=\{)", lambda m: []),
    rule(
        rf"\\(?P<name>{one_of(_COMMANDS)}|alpha|beta|gamma|delta|epsilon|theta|lambda|mu|pi|rho|sigma|phi|psi|omega)(?![A-Za-z])",
        _say_command,
    ),
    rule(
        r"\#(?!\w)",
        lambda m: "pound" if re.search(r"(?i)\b(?:press|hit|dial)(?:\ the)?\ $|\*\d+$", before(m)) else None,
    ),
    rule(r"\#(?=\s+[a-z]|\s*:)", lambda m: "number"),  # my # is
    rule(r"\#(?=[A-Za-z])", lambda m: "hashtag"),
    rule(r"~(?=[A-Z(])", lambda m: "not" if re.search(r"\b(?:implies|or|and)\b|·|≡", m.string) else None),
    rule(r"°\ ?(?P<scale>[CF])\b", lambda m: f"degrees {'Celsius' if m['scale'] == 'C' else 'Fahrenheit'}"),
    rule(r"~+|_+|\|+|\^(?!\w)|\*+", lambda m: []),
    rule(rf"[{re.escape(''.join(NAMES))}]", _say_name),
]
LETTER_RULES: list[Rule] = [
    rule(r"x(?=\s?\d)", _say_by),
    rule(r"v\b\.?(?=\ [A-Z\d])", lambda m: "versus" if re.search(r"[\w.)]\ $", before(m)) else None),
]
