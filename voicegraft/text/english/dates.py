"""Dates and days."""

from __future__ import annotations

import re

from voicegraft.text.english import clock
from voicegraft.text.english.clock import TO, clock_words
from voicegraft.text.english.numbers import DIGITS, cardinal, ordinal, year
from voicegraft.text.english.tokens import Match, Piece, Rule, Said, after, before, one_of, pieces, rule
from voicegraft.text.english.words import word_set
from voicegraft.text.patterns import lazy

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_SHORT_MONTH = "jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec"
NAMES = (
    *MONTHS,
    *_SHORT_MONTH.replace("sept?", "sep|sept").split("|"),
    *["Mon", "Tue", "Tues", "Wed", "Thu", "Thurs", "Fri", "Sat", "Sun"],
)
_MONTH = rf"(?:(?:{'|'.join(MONTHS)})\b|(?:{_SHORT_MONTH})\b\.?)"
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_YEAR = r"(?:1\d{3}|20\d\d|[3-9]\d\d|')"
_WEEKDAY = r"(?:Mon|Tues?|Wed|Thu|Thurs?|Fri|Sat|Sun)"
_CUE = lazy(
    rf"(?i)\b(?:{one_of(word_set('date cues'))})\.?,?\ \(?$|\((?:mon|tue?|wed|thu?|fri|sat|sun)[a-z.]*,?\ $", re.VERBOSE
)
_CHAIN = lazy(r"\d{1,2}/\d{1,2}(?:,\ |\ (?:to|and|through|or|until)\ |\s?[-–]\s?)$", re.VERBOSE)
_BEFORE_TIME = lazy(
    rf"(?i),?\ (?:{_MONTH}|\d\d?(?:[ap]m?\b|:\d)|(?:at|from)\ \d|\d\d?(?:\s?[-–]\s?|/)\d)"
    rf"|,\ \d{{1,2}}\ {_MONTH}|\ (?:'?til|till|until)\b|\s?[-–/]\s?{_WEEKDAY}\b|:\s"
    rf"|\ [-–]\ \d\d?(?::\d\d)?\ ?[ap]\.?m|(?:,?\ (?:and|&)|\ to)\ {_WEEKDAY}\b",
    re.VERBOSE,
)
_OPEN_ON = lazy(r"(?i)(?:\b(?:open|closed|house|every|on|this|next|last|and)|[,;&])\ $", re.VERBOSE)
_ON = lazy(r"\b(?:for|on|by|until|this|next|last|every|except|exc\.)\ $", re.VERBOSE)
_AFTER_DAY = lazy(rf"(?:\b{_WEEKDAY}\.?|[a-z]day)(?:\s?[-–/]\s?|,\ |,?\ (?:and|&)\ |\ to\ )$", re.VERBOSE)


def month_name(written: str) -> str:
    """`Sept.` is September; a full name stays as it is written."""
    bare = written.rstrip(".")
    full = next(name for name in MONTHS if name.lower().startswith(bare.lower()[:3]))
    return (full.capitalize() if bare.isupper() else bare) if len(bare) == len(full) else full


def say_year(written: str) -> str:
    """`1999`, `'98`, `07`."""
    bare = written.lstrip("'")
    if len(bare) == 2:
        return f"oh {DIGITS[int(bare)]}" if bare[0] == "0" else cardinal(bare)
    return year(int(bare))


def _say_month_day(match: Match) -> Said:
    """`Jan. 5th, 1999`, `May 5-9`, `july 25 2012`."""
    name, tail = match["month"], after(match)
    if name in ("may", "march") and not (match["ending"] or match["year"] or re.match(r"[.,;:!?)]|$", tail)):
        return None
    if name.lower().rstrip(".") in ("may", "march", "mar") and re.match(r"\ (?:percent|of the|times)\b", tail):
        return None
    day = Piece(ordinal(int(match["day"])), match.start("day"), match.end("ending" if match["ending"] else "day"))
    said = [*pieces(match, ("month", month_name(name))), day]
    if match["until"]:
        last = Piece(
            f"to {ordinal(int(match['until']))}",
            match.start("to"),
            match.end("untilend") if match["untilend"] else match.end("until"),
        )
        said.append(last)
    if match["year"]:
        said += [Piece(",", match.start("year"), match.start("year"))] if match["comma"] else []
        said += pieces(match, ("year", say_year(match["year"])))
    return said


def _say_day_month(match: Match) -> Said:
    """`5 May 2012`, `25th of december`, `15-Jan-2020`."""
    name = match["month"]
    if name in ("may", "march", "mar") and not (
        match["ending"] or match["year"] or re.match(r"[.,;:!?)]|$", after(match))
    ):
        return None
    if name == "may" and not match["year"] and not match["ending"]:
        return None
    article = "" if match["of"] or re.search(r"(?i)\bthe\ $", before(match)) else "the "
    day = ordinal(int(match["day"]))
    start = [
        Piece(
            f"{article}{day} {'' if match['of'] else 'of'}".strip(),
            match.start("day"),
            match.end("ending") if match["ending"] else match.end("day"),
        )
    ]
    if match["until"]:
        start = [
            Piece(f"{article}{day}", match.start("day"), match.end("day")),
            Piece(f"to the {ordinal(int(match['until']))} of", match.start("to"), match.end("until")),
        ]
    if match["of"]:
        start.append(Piece("of", match.start("of"), match.end("of")))
    start += pieces(match, ("month", month_name(name)))
    if match["year"]:
        start += [Piece(",", match.start("year"), match.start("year"))] if match["comma"] else []
        start += pieces(match, ("year", say_year(match["year"])))
    return start


def _say_month_year(match: Match) -> Said:
    if match["month"] in ("may", "march"):
        return None
    return pieces(match, ("month", month_name(match["month"])), ("year", say_year(match["year"])))


def _say_month(match: Match) -> Said:
    return month_name(match.group())


def _say_numeric(match: Match) -> Said:
    """`3/4/2024` and `2024-03-04` are March fourth, `25/12/2020` and `15.01.2020` the twenty fifth of December."""
    if match["y1"]:
        month, day, years = int(match["m1"]), int(match["d1"]), match["y1"]
    else:
        month, day, years = int(match["m2"]), int(match["d2"]), match["y2"]
        is_short = match["s2"] == "." and len(years) == 2 and len(match.group()) < 8
        if is_short and not _CUE.search(before(match)):
            return None  # version 1.10.26
    british = month > 12 >= day
    if british:
        month, day = day, month
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    name = f"the {ordinal(day)} of {MONTHS[month - 1]}" if british else f"{MONTHS[month - 1]} {ordinal(day)}"
    return f"{name} {say_year(years)}"


def _say_dates(match: Match) -> Said:
    """`11/24-11/27`; 1/2-3/4 are fractions."""
    days = (int(match["day"]), int(match["until"]))
    if not _CUE.search(before(match)) and any(day in (2, 3, 4, 5, 6, 8, 10, 12, 16) for day in days):
        return None
    first, last = (
        f"{MONTHS[int(match[month]) - 1]} {ordinal(day)}" for month, day in zip(("month", "month2"), days, strict=True)
    )
    return f"{first} to {last}"


def _say_short_date(match: Match) -> Said:
    """`on 12/25` names a month and a day."""
    ahead = before(match)
    chained = _CHAIN.search(ahead)  # from 3/14 to 3/21
    if not _CUE.search(ahead[: chained.start()] if chained else ahead) or re.match(r"\ of\b", after(match)):
        return None
    month, day = int(match["month"]), int(match["day"])
    if month > 12 >= day:
        month, day = day, month
    return f"{MONTHS[month - 1]} {ordinal(day)}" if 1 <= month <= 12 and 1 <= day <= 31 else None


def _say_day_name(match: Match) -> Said:
    """`Mon` and `Sat` alone may be something else; `Tues` and `Thurs` are not."""
    if match["day"] not in ("Tue", "Tues", "Thu", "Thurs") and not (
        _BEFORE_TIME.match(after(match))
        or _AFTER_DAY.search(before(match))
        or (match.group().endswith(".") and after(match) and _OPEN_ON.search(before(match)))
        or (match.group().endswith(".") and re.match(r"\ [a-z]", after(match)))
        or re.search(r"(?i)\b(?:closed|open)\ $", before(match))
        or (re.match(r"[,;!?)]|$", after(match)) and _ON.search(before(match)))
    ):
        return None
    return _full_day(match["day"])


def _full_day(short: str) -> str:
    return next(name for name in _DAYS if name.lower().startswith(short.lower()[:3]))


def _say_week_days(match: Match) -> Said:
    """`M–F`: Monday to Friday."""
    first, last = _full_day(match["day"]), _full_day(match["last"])
    return f"{first} to {last}" if _DAYS.index(first) < _DAYS.index(last) else None


def _say_class_days(match: Match) -> Said:
    """`Tu/Th`, `M/W/F`: when classes meet."""
    short = match.group().split("/")
    if len(short[0]) > 1 or len(short) > 2 or set(short) <= {"M", "W", "F"}:
        names = [*map(_full_day, short)]
        return f"{' '.join(names[:-1])} and {names[-1]}"
    return None


def _offset(match: Match) -> str:
    return f" {'minus' if match['sign'] == '-' else 'plus'} {cardinal(int(match['offset']))}" if match["sign"] else ""


def _say_iso(match: Match) -> Said:
    month, day = int(match["month"]), int(match["day"])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    date = Piece(f"{MONTHS[month - 1]} {ordinal(day)} {year(int(match['year']))}", match.start(), match.end("day"))
    return [
        date,
        Piece(
            f"{clock_words(int(match['hour']), match['minute'], False)}{' UTC' if match['zulu'] else _offset(match)}",
            match.start("hour"),
            match.end(),
        ),
    ]


NUMERIC_RULES: list[Rule] = [
    rule(
        r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)[T ]"
        r"(?P<hour>\d\d):(?P<minute>\d\d)(?::\d\d(?:\.\d{1,6})?)?(?:(?P<zulu>Z)|(?P<sign>[-+])(?P<offset>\d\d):?\d\d)?(?![\w:])",
        _say_iso,
    ),
    rule(
        r"(?:(?P<y1>\d{4})(?P<s1>[-/.])(?P<m1>\d{1,2})(?P=s1)(?P<d1>\d{1,2})"
        r"|(?P<m2>\d{1,2})(?P<s2>[-/.])(?P<d2>\d{1,2})(?P=s2)(?P<y2>\d{4}|\d\d))(?![\w/]|[-.]\d)",
        _say_numeric,
    ),
    rule(
        rf"(?P<day>{_DAY})(?P<ending>st|nd|rd|th)?(?:(?P<to>{TO})(?P<until>{_DAY})(?:st|nd|rd|th)?)?"
        rf"(?:\ (?P<of>of)\ |[ -])(?P<month>{_MONTH})"
        rf"(?:(?P<comma>,)?[ -](?P<year>{_YEAR}?\d\d\b|{_YEAR}\b)(?!\d|,\d|:))?(?!\w|\.\w)",
        _say_day_month,
        re.IGNORECASE,
    ),
    rule(
        rf"(?P<month>0?[1-9]|1[0-2])/(?P<day>{_DAY}){TO}"
        rf"(?P<month2>0?[1-9]|1[0-2])/(?P<until>{_DAY})(?![\w/]|\.\d|\ ?(?:of|cup|inch))",
        _say_dates,
    ),
    rule(r"(?P<month>0?[1-9]|1[0-2]|[12]\d|3[01])/(?P<day>\d{1,2})(?![\w/]|\.\d)", _say_short_date),
    *clock.RULES,
]
NAME_RULES: list[Rule] = [
    rule(
        rf"(?P<month>{_MONTH})[ -](?P<day>{_DAY})(?P<ending>st|nd|rd|th)?\b"
        rf"(?:(?P<to>{TO})(?P<until>{_DAY})(?P<untilend>st|nd|rd|th)?\b(?!/))?"
        rf"(?:(?P<comma>,)?\ (?P<year>(?:1\d|20)\d\d|'\d\d)\b(?!,\d|:|\.\d))?(?![\w/]|[.,:]\d|\ ?%)",
        _say_month_day,
        re.IGNORECASE,
    ),
    rule(
        rf"(?P<month>{_MONTH}),?\ (?P<year>(?:1\d|20)\d\d|'\d\d)\b(?![\w/]|[.,:]\d|\ ?%)",
        _say_month_year,
        re.IGNORECASE,
    ),
    rule(
        r"(?:Jan|Feb|Apr|Aug|Sept?|Oct|Nov|Dec)\b(?:\.(?=[\s,]|$))?(?![\w'])(?!-(?![A-Z]))|(?:Mar|Jun|Jul)\.(?=[\s,]|$)",
        _say_month,
    ),
    rule(r"(?P<day>M|Tu|W|Th)[-–](?P<last>W|Th|F|Sa|Su)(?![\w'-])", _say_week_days),
    rule(r"(?:Tu|Th|M|W|F|Sa|Su)(?:/(?:Tu|Th|W|F|Sa|Su)){1,5}(?![\w/])", _say_class_days),
    rule(rf"(?P<day>{_WEEKDAY})\b\.?(?!['\w])", _say_day_name),
]
