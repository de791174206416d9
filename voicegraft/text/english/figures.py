"""Numbers without a unit: years, codes, houses, ordinals, fractions, ranges; what they are shows in what stands around."""

from __future__ import annotations

import re

from voicegraft.text.english.clock import is_ratio
from voicegraft.text.english.numbers import (
    DIGITS,
    NUMBER,
    SPACED,
    cardinal,
    digits,
    fraction_words,
    ordinal,
    pairs,
    parse,
    plural,
    year,
)
from voicegraft.text.english.tokens import Match, Piece, Rule, Said, after, before, one_of, pieces, rule
from voicegraft.text.english.words import table, word_set
from voicegraft.text.patterns import lazy

_CODE_CUE = lazy(
    rf"(?i)\b(?:{one_of(word_set('code cues'))})(?:\ (?:number|no\.?|in|is|was|\#))?[ :]*(?:\#\s?)?$", re.VERBOSE
)
_PAIR_CUE = lazy(
    rf"(?i)\b(?:{one_of(word_set('pair cues'))})(?:\.|\ (?:no\.?|number))?(?:\ (?-i:[A-Z\d]{{2}}))?\ \#?$",
    re.VERBOSE,
)
_OF_CUE = lazy(rf"(?i)\b(?:{one_of(word_set('of cues'))})\.?\ \#?$", re.VERBOSE)
_OUT_OF_CUE = lazy(
    rf"(?i)\b(?:{one_of(word_set('out of cues'))})(?:\ (?:it|this|them|her|him|me|us))?\ (?:an?\ |a\ solid\ |about\ )?$",
    re.VERBOSE,
)
_DIAL_CUE = lazy(rf"(?i)\b(?:{one_of(word_set('dial cues'))})(?:\ to|:)?\ $", re.VERBOSE)
_SCORE_CUE = lazy(rf"(?i)\b(?:{one_of(word_set('score cues'))})\b", re.VERBOSE)
# What a team has won and lost, not what a side scored: the Bears are 3-0.
_RECORD_CUE = lazy(
    r"(?i)\b(?:record(?:\ (?:is|was|of|to|at))?|(?:are|were|go|goes|went|started|began|improved\ to|fell\ to)(?:\ now)?)"
    r"\ (?:an?\ )?$",
    re.VERBOSE,
)
_ENDS_RECORD = lazy(
    r"\s*(?:[.,;!?)]|$)"
    r"|\ (?:for|on|in|this|last|since|during|with|at|against|to|and|but|as|before|after|overall|record|start)\b"
)
_YEAR_CUE = lazy(r"(?i)\b(?:in|since|until|by|of|from|year|around|circa|ca\.|before|after|during|early|late)\ $")
_AGE_CUE = lazy(r"(?i)\b(?:in|under|over|about)\ $", re.VERBOSE)
_TIME_CUE = lazy(r"(?i)\b(?:for|after|took|takes|take|wait|every|within|lasts?|in|under|over|about)\ $", re.VERBOSE)
_EMERGENCY = frozenset(
    ("911", "999", "112", "000", "988", "101", "111", "211", "311", "411", "511", "611", "711", "811")
)
_STREET = (
    r"(?:(?:[NSEW]{1,2}|North|South|East|West)\.?\ )?(?:[A-Z][\w'.-]*\ ){1,4}?"
    rf"(?:{one_of(table('streets'))}|{one_of(word_set('street words'))})\b"
)
_HOUSE = lazy(rf"\ (?:{_STREET}|(?:[NSEW]\.?\ )?\d{{1,3}}(?:st|nd|rd|th)\ )", re.VERBOSE)
_COUNTED = lazy(
    r"\ (?!is\b|was\b|has\b|as\b|this\b|its\b)(?:[a-z]+\ )?(?:[a-z]{2,}s|people|men|women|children|feet|troops|square|cubic)\b"
)
_PAGES_CUE = lazy(r"(?i)\b(?:pp?\.|pages?|pgs?\.?|nos?\.|numbers|lines?|ll\.|vv?\.|verses)\ [\d\s,;–-]*$", re.VERBOSE)
_SHARP = ("15", "20", "25", "30", "40", "50", "60", "70", "80", "100", "200", "400")  # what eyes see at 20 feet
_VARIABLE = lazy(r"\dx\)|[-+=] ?\d*x\b|\bx ?[-+=^]")
_IN_SUM = lazy(r"[=+×*÷^<>]\s?-?$|[\d)a-z]\s[-–]\s$|\b(?:plus|minus|times|by|equals)\ $")
_SUM_AFTER = lazy(r"\s?[=+×*÷^<>]|\s[-–−]\s\d[\d.,]*\s?(?:[=+]|is\b|equals\b)")
_MATHS = lazy(r"(?i)(?:\b(?:what(?:'s| is)|compute|calculate|solve|evaluate)\ |[=+×*÷^<>]\s?)$")


def say_figure(match: Match) -> Said:
    """A bare number, by what stands before and after it."""
    number = parse(match["first"])
    return _say_bare(match, number.whole) if number.decimals is None and not number.is_grouped else number.say()


def _say_bare(match: Match, whole: str) -> str:
    ahead, behind = before(match), after(match)
    if len(whole) > 17 or (whole[0] == "0" and len(whole) > 1):
        return digits(whole)
    if _CODE_CUE.search(ahead) and len(whole) >= 3 and not re.match(r"\s?[-–]|\ [a-z]+s\b", behind):
        return digits(whole)
    if _DIAL_CUE.search(ahead) and (whole in _EMERGENCY or len(whole) > 4 or ahead.lower().rstrip().endswith("dial")):
        return digits(whole)
    if whole == "911" and re.match(r"\ (?:operator|dispatch|call|emergency)", behind):
        return digits(whole)
    if behind[:1].isalpha() or (behind[:1] == "-" and behind[1:2].isalnum()) or ahead[-1:] == "-":
        if re.match(r"-\d+(?![\w-])", behind):
            return cardinal(whole)
        return number_name(whole)
    if len(whole) in (3, 4) and (_PAIR_CUE.search(ahead) or _HOUSE.match(behind)):
        return pairs(whole)
    if re.fullmatch(r"7[0-8]7", whole) and not _COUNTED.match(behind):
        return pairs(whole)  # an airliner
    if len(whole) == 4:
        return _four_digits(whole, ahead, behind)
    if len(whole) == 5 and re.search(r"\b[A-Z]{2},?\ $|D\.C\.,?\ $|(?:[A-Z][a-z]+),\ $", ahead):
        return digits(whole)  # after a state
    if len(whole) >= 5 and not whole.endswith("00") and not _COUNTED.match(behind):
        return cardinal(whole) if _is_sum(ahead, behind) else digits(whole)
    return cardinal(whole)


def _is_sum(ahead: str, behind: str) -> bool:
    return bool(_IN_SUM.search(ahead) or _SUM_AFTER.match(behind))


def _four_digits(whole: str, ahead: str, behind: str) -> str:
    value = int(whole)
    if 1100 <= value < 2100 and re.search(r"[A-Z][a-z]+,? $", ahead) and not re.search(r"(?:^|[.?!] )\w+ $", ahead):
        return year(value)  # the Human Rights Act 1998
    if _is_sum(ahead, behind) or (_COUNTED.match(behind) and not _YEAR_CUE.search(ahead) and value % 100):
        return cardinal(whole)
    if value < 1010 or 2000 <= value < 2010:
        return year(value)
    if value < 2100 or (value % 100 == 0 and value % 1000):
        return pairs(whole)
    return cardinal(whole)


def number_name(written: str) -> str:
    """A number that is a name or a year: `1945` nineteen forty five, `19` nineteen, `0451` zero four five one."""
    if written[0] == "0" and len(written) > 1:
        return digits(written)
    if len(written) == 4:
        return year(int(written)) if int(written) < 2100 else pairs(written)
    return cardinal(written, " ") if len(written) < 4 else digits(written)


def is_sum(ahead: str, behind: str) -> bool:
    """Whether a dash between two numbers is a minus for sure: in an equation."""
    return bool(re.match(r"\s?[=×*÷]|\s?\+\s?\d|\s(?:equals)\b", behind) or _MATHS.search(ahead))


def is_difference(first: str, second: str, ahead: str, behind: str) -> bool:
    """Whether a dash with spaces around is a minus: in an equation, or where the numbers fall and nobody won."""
    if is_sum(ahead, behind) or re.match(r"\sis\b", behind):
        return True
    low, high = parse(first), parse(second)
    rises = (high.value, high.decimals or "") > (low.value, low.decimals or "")
    return not rises and not _SCORE_CUE.search(ahead + behind) and len(low.whole) < 4


def _say_ordinal(match: Match) -> Said:
    value, ending = parse(match["first"]).value, match["ending"].lower()
    right = "th" if value % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
    if ending != right:
        return f"{cardinal(value)} {match['ending'].lower()}"
    return ordinal(value) + (match["of"] or "").replace("’", "'")


def _say_people(match: Match) -> Said:
    """`49ers`, `76ers`."""
    number = cardinal(match["first"])
    return f"{number.removesuffix('e')}ers"


def _say_decade(match: Match) -> Said:
    """`1990s`, `'80s`, `the 1700's`, `7s`, `747s`."""
    whole, ahead = match["first"], before(match)
    possessive = match["quote"] and len(whole) == 4 and not whole.endswith("0")
    if len(whole) < 3 and _TIME_CUE.search(ahead) and (whole[-1] != "0" or not _AGE_CUE.search(ahead)):
        return f"{cardinal(whole)} seconds"
    if whole.endswith("0") and len(whole) == 4 and not int(whole) % 1000:
        return "thousands" if whole == "1000" else plural(f"{cardinal(whole)}")
    said = (
        year(int(whole))
        if len(whole) == 4
        else pairs(whole)
        if len(whole) == 3 and whole[1:] != "00"
        else cardinal(whole)
    )
    if whole == "100":
        return "hundreds"
    return f"{said}'s" if possessive else plural(said)


def _say_fraction(match: Match) -> Said:
    over, under, whole = match["over"], match["under"], match["whole"]
    ahead, behind = before(match), after(match)
    if "." in over:
        return f"{parse(over).say()} out of {cardinal(under)}"
    if re.match(r"\s?=", behind) and (int(over) > int(under) or int(under) > 999):
        return f"{cardinal(over)} divided by {cardinal(under)}"
    if not whole and _OF_CUE.search(ahead):
        return f"{cardinal(over)} of {cardinal(under)}"
    if not whole and (
        (_OUT_OF_CUE.search(ahead) and not re.match(r"\ (?:of|times|as)\b", behind))
        or re.search(r"(?i)\b(?:strength|reflexes|power|apgar)\b[^.;]{0,12}$", ahead)
        or re.match(r"\ (?:stars?|points|on\ the\ (?:test|exam|quiz))\b", behind)
    ):
        return f"{cardinal(over)} out of {cardinal(under)}"
    if (
        re.search(r"(?i)\b(?:blood pressure|bp)\b", ahead)
        or re.match(r"\ ?mm\ ?Hg", behind)
        or (80 <= int(over) <= 220 and 40 <= int(under) <= 130 and not whole and under != "100")
    ):
        return f"{pairs(over) if len(over) == 3 else cardinal(over)} over {cardinal(under)}"
    if re.match(r".{0,12}\b(?:yds?|yards|TDs?|rebounds)\b", behind):
        return f"{cardinal(over)} for {cardinal(under)}"  # passes, throws
    if (
        over == "20"
        and under in _SHARP
        and re.search(r"(?i)\b(?:vision|acuity|eyes?|sight\w*|OD|OS)\b", ahead + behind)
    ):
        return f"twenty {cardinal(under)}"
    if int(over) + int(under) == 100 and int(over) % 5 == 0 and int(over) >= 50 and not whole:
        return f"{cardinal(over)} {cardinal(under)}"  # 80/20
    if (over, under) in (("18", "10"), ("18", "8")) and re.match(r"\ (?:stainless|steel)", behind):
        return f"{cardinal(over)} {cardinal(under)}"
    if over == under and over in ("5", "10", "100") and not whole:
        return f"{cardinal(over)} out of {cardinal(under)}"
    if over == under and over in ("20", "50"):
        return f"{cardinal(over)} {cardinal(under)}"
    said = fraction_words(int(over), int(under), mixed=bool(whole))
    said = f"{cardinal(whole)} and {said}" if whole else said
    if match["inch"] and re.sub(r'\d ?"', "", match.string[: match.start()]).count('"') % 2:
        return said  # a closing quotation mark
    return said + (" inch" if match["inch"] and not whole else " inches" if match["inch"] else "")


def _say_range(match: Match) -> Said:
    first, second = parse(match["first"]), parse(match["second"])
    ahead, behind, dash = before(match), after(match), match["dash"]
    if first.whole and len(first.whole) > 1 and first.whole[0] == "0" and first.decimals is None:
        return None
    if (
        dash == "-"
        and max(first.value, second.value) < 200
        and _RECORD_CUE.search(ahead)
        and _ENDS_RECORD.match(behind)
    ):
        return f"{first.say()} and {second.say() if second.value else 'oh'}"
    rises = (second.value, second.decimals or "") > (first.value, first.decimals or "")
    if is_difference(match["first"], match["second"], ahead, behind) if dash.strip() != dash else is_sum(ahead, behind):
        return None
    if len(second.whole) == 2 and len(first.whole) == 4:  # 2019-20, 1914-18
        tail = f"oh {DIGITS[second.value]}" if second.whole[0] == "0" else cardinal(second.whole)
        return f"{year(first.value)} to {tail}"
    years = (
        len(first.whole) == len(second.whole) == 4
        and not first.is_grouped
        and first.decimals is None
        and second.value < 2200
    )
    if first == second and dash == "-" and not _SCORE_CUE.search(ahead + behind):
        return f"{first.say()} {second.say()}"  # fifty fifty
    shortened = len(second.whole) < len(first.whole) and second.value > first.value % 10 ** len(second.whole)
    rises = rises or (shortened and (dash == "–" or bool(_PAGES_CUE.search(ahead))))  # pp. 114-17
    if not (years or rises or first.value < 100 or " " in dash or _SCORE_CUE.search(ahead + behind)):
        return None
    if max(len(first.whole), len(second.whole)) > 4 and not (first.is_grouped and second.is_grouped):
        return None
    low, high = (year(n.value) if years and n.value > 999 else n.say() for n in (first, second))
    tail = match["tens"] or ""
    if tail:
        high = plural(high)
    return [*pieces(match, ("first", low)), Piece(f"to {high}", match.start("dash"), match.end())]


def _say_dotted(match: Match) -> Said:
    """`192.168.0.1` is an address, `2.0.1` a version."""
    address, _, port = match.group().lower().removeprefix("v").partition(":")
    parts = address.split(".")
    head = "version " if match.group()[0] in "vV" else ""
    if len(parts) == 4 and all(int(part) < 256 for part in parts):
        return head + " dot ".join(map(digits, parts)) + (f" colon {digits(port)}" if port else "")
    if len(parts) == 2:
        return f"{head}{cardinal(parts[0])} point {digits(parts[1]) if parts[1][0] == '0' else cardinal(parts[1])}"
    return head + " point ".join(cardinal(part) for part in parts)


def _say_power(match: Match) -> Said:
    """`6.02e23`."""
    exponent = match["exponent"]
    minus = "minus " if exponent[0] == "-" else ""
    return f"{parse(match['first']).say()} times ten to the {minus}{cardinal(exponent.lstrip('+-'))}"


def _say_times(match: Match) -> Said:
    if "." in match["first"] or _IN_SUM.search(before(match)) or _VARIABLE.search(match.string):
        return None
    return f"{parse(match['first']).say()} times"


def _say_ratio(match: Match) -> Said:
    first, second = match["first"], match["second"]
    if len(second) == 2 and not is_ratio(match):
        return None
    return f"{cardinal(first)} to {cardinal(second)}"


def _say_hash(match: Match) -> Said:
    """`#5`, `#D30`: number five, number D thirty."""
    return [Piece("number", match.start(), match.end())]


def _say_about(match: Match) -> Said:
    return "about"


def _say_plus(match: Match) -> Said:
    return pieces(match, ("first", parse(match["first"]).say()), ("plus", "plus"))


RULES: list[Rule] = [
    rule(r"[vV]?\d{1,3}(?:\.\d{1,3}){2,4}(?::\d{2,5})?(?![\w.]*\w|[/-]\d)", _say_dotted),
    rule(r"[vV]\d{1,3}\.\d{1,3}(?![\w]|\.\d)", _say_dotted),
    rule(rf"(?P<first>{NUMBER})[eE](?P<exponent>[+-]?\d{{1,3}})(?![\w.])", _say_power),
    rule(
        r"(?P<first>\d{1,3}(?:,\d{3})+|\d{1,9})-?(?P<ending>st|nd|rd|th|ST|ND|RD|TH)(?P<of>'s)?(?![\w])", _say_ordinal
    ),
    rule(r"(?<=')0(?P<first>\d)(?![\w'])", lambda m: f"oh {DIGITS[int(m['first'])]}"),
    rule(r"(?P<first>\d{1,3})ers\b", _say_people),
    rule(r"(?P<mark>'(?=\d0'?s))?(?P<first>\d{1,4})(?P<quote>')?s(?![\w'])", _say_decade),
    rule(
        r"(?<![/\d])(?:(?P<whole>\d{1,4})[ -])?(?P<over>\d{1,4}|\d\.\d)/(?P<under>\d{1,4})"
        r"(?:th|TH|rd|nds?|ths|rds|'s)?(?P<inch>\ ?\"(?!\w))?(?![\w]|/\d|[.,]\d)",
        _say_fraction,
    ),
    rule(
        r"(?P<first>\d{1,3}):(?P<second>\d{1,4})(?![\d:]|\.\d)",
        _say_ratio,
    ),
    rule(r"\d{1,3}(?::\d{1,3}){2,4}(?![\w:]|\.\d)", lambda m: " to ".join(map(cardinal, m.group().split(":")))),
    rule(
        rf"(?<![-/\w])(?P<first>{NUMBER})(?P<dash>[ \u00a0]?(?:-|–|--)[ \u00a0]?)(?P<second>{NUMBER})(?P<tens>(?<=0)s)?"
        r"(?![\w%°]|[:/]\d|-\w|,\d|\s?[-–]\s?\d)",
        _say_range,
    ),
    rule(rf"(?P<first>{NUMBER})x(?![\w]|\s?[=+*)^-]|\s?/(?![a-z]{3}))", _say_times),
    rule(rf"(?P<first>{NUMBER})(?P<plus>\+)(?![\w+]|\s?\d)", _say_plus),
    rule(r"\#\s?(?=\d|[A-Z]{1,2}-?\d)", _say_hash),
    rule(r"~\s?(?=[$£€¥]?\.?\d)", _say_about),
    rule(rf"(?P<first>{SPACED})(?=\ (?!and\b|or\b|to\b)[a-z]{{3,}}|-[a-z]|\.?$|[,;)])", say_figure),
    rule(rf"(?P<first>{NUMBER})", say_figure),
]
