"""Times of day, durations and laps."""

from __future__ import annotations

import re

from voicegraft.text.english.numbers import DIGITS, cardinal, digits
from voicegraft.text.english.tokens import Match, Piece, Rule, Said, after, before, rule
from voicegraft.text.patterns import lazy

TO = r"\s?(?:-|–|--)\s?"
_AFTER_DATE = lazy(r"\b(?:19|20)\d\d,?\ (?:at\ )?$", re.VERBOSE)
_RATIO = lazy(r"(?i)\b(?:ratios?|odds|proportions?)\b[^.;:\d]{0,25}$")
_AFTER_RATIO = lazy(r"\ (?:ratio|scale|odds|mixture|mix|dilution|split)\b")
_TO_TOWN = lazy(r"\ (?:to|from|for)\ [A-Z]")
_TRAINS = lazy(r"(?i)\b(?:trains?|stations?|express|platform|railway|down|up)\b")
_SINGLE = r"(?:(?<=\d)(?-i:[ap])\b(?!['\w-]|\.\w))"  # 9a-5p
_OFFSET = r"(?:\ (?P<offset>[-+]\d{4})\b)"
_HALF = r"(?:[ap]\.\s?m\b\.?|[ap]m\b|(?<=:\d\d)(?-i:[ap])\b(?!['.\w-]))"
_ZONE = r"(?:[ECMP][SD]?T|GMT|UTC|BST|CET|CEST|IST|JST)"
_DAYTIME = r"(?:[01]\d|2[0-3])[0-5]\d"
_BY_CLOCK = lazy(
    r"\ (?:in\ the\ (?:morning|afternoon|evening)|o'clock|this\ (?:morning|evening)|train|express|down|up)\b",
    re.VERBOSE,
)
_CLOCK = r"(?P<hour>\d{1,2})(?::(?P<minute>[0-5]\d))"


def say_half(written: str | None) -> str:
    """`p.m.` is PM."""
    return f" {written[0].upper()}M" if written else ""


def clock_words(hour: int, minute: str | None, has_half: bool) -> str:
    if minute is None or minute == "00":
        if has_half:
            return cardinal(hour)
        return f"{cardinal(hour)} o'clock" if 0 < hour < 13 else f"{cardinal(hour)} hundred"
    return f"{cardinal(hour)} {f'O {DIGITS[int(minute)]}' if minute[0] == '0' else cardinal(minute)}"


def _say_time(match: Match) -> Said:
    """`5:30pm`, `14:00`, `10:30-11:45 p.m.`, `3-4 p.m.`"""
    groups = match.groupdict()
    hour, minute, half = int(match["hour"]), match["minute"], match["half"]
    hour2, half2, zone = groups.get("hour2"), groups.get("half2"), groups.get("zone")
    if hour > 24 or (hour2 and int(hour2) > 24) or (hour2 and not (minute or match["minute2"] or half2)):
        return None
    if minute and not half and is_ratio(match):
        return None
    last = (hour2 and not minute) or half2 or half or re.match(r"\ (?:noon|midnight)\b", after(match))
    first = Piece(
        clock_words(hour, minute, bool(last)) + say_half(half),
        match.start("hour"),
        match.end("half") if half else match.end("minute") if minute else match.end("hour"),
    )
    if not hour2:
        said = [first]
    else:
        words = f"to {clock_words(int(hour2), match['minute2'], bool(last))}"
        end = match.end("minute2") if match["minute2"] else match.end("hour2")
        if half or half2 is None or not match.string[end : match.start("half2")]:
            said = [first, Piece(words + say_half(half2), match.start("to"), match.end("half2") if half2 else end)]
        else:
            said = [
                Piece(f"{first.words} {words}", match.start(), end),
                Piece(say_half(half2).strip(), match.start("half2"), match.end("half2")),
            ]
    if zone:
        said.append(Piece(zone.replace(".", "").upper(), match.start("zone"), match.end("zone")))
    return said


def is_ratio(match: Match) -> bool:
    """`in the ratio 10:17`, `a 90:10 mix`."""
    return bool(_RATIO.search(before(match)) or _AFTER_RATIO.match(after(match)))


def _say_lap(match: Match) -> Said:
    """`1:32.405`."""
    return f"{clock_words(int(match['hour']), match['minute'], False)} point {digits(match['part'])}"


def _say_train(match: Match) -> Said:
    """`the 11.29 from Paddington`, `at 8.15 in the morning`."""
    if int(match["hour"]) > 24 or not (
        _BY_CLOCK.match(after(match))
        or (
            re.search(r"(?i)\bthe\ $", before(match)) and (_TRAINS.search(match.string) or _TO_TOWN.match(after(match)))
        )
    ):
        return None
    return clock_words(int(match["hour"]), match["minute"], False)


def _say_military(match: Match) -> Said:
    """`0800 hrs`, `0900-1630 hours`."""
    first, last = match["first"], match["second"]
    if not (last or first[0] == "0" or re.search(r"\b(?:at|from|by|until|till)\ $", before(match))):
        return None
    said = [Piece(_hours(first), match.start("first"), match.end("first"))]
    if last:
        said.append(Piece(f"to {_hours(last)}", match.end("first"), match.end("second")))
    return said


def _hours(written: str) -> str:
    hour, minute = written[:2], written[2:]
    start = f"oh {DIGITS[int(hour)]}" if hour[0] == "0" else cardinal(hour)
    return (
        f"{start} hundred" if minute == "00" else f"{start} {cardinal(minute) if minute[0] != '0' else digits(minute)}"
    )


def _say_duration(match: Match) -> Said:
    """`14:10:30` is fourteen hours ten minutes and thirty seconds."""
    if int(match["minute"]) > 59 or int(match["second"][:2]) > 59:
        return None
    if match["offset"] or _AFTER_DATE.search(before(match)):
        said = f"{clock_words(int(match['hour']), match['minute'], False)} and {cardinal(int(match['second'][:2]))} seconds"
        offset = match["offset"] or ""
        return said + (f" {'minus' if offset[0] == '-' else 'plus'} {digits(offset[1:])}" if offset else "")
    names = []
    for group, unit in (("hour", "hour"), ("minute", "minute"), ("second", "second")):
        whole, _, rest = match[group].partition(".")
        number = cardinal(int(whole)) + (f" point {digits(rest)}" if rest else "")
        names.append(f"{number} {unit if number == 'one' else unit + 's'}")
    zone = (match["zone"] or "").replace(".", "").upper()
    return f"{names[0]} {names[1]} and {names[2]}{say_half(match['half'])} {zone}".rstrip()


def _say_hours(match: Match) -> Said:
    """`1h 30m`, `5m 20s`."""
    names = []
    for group in ("hour", "minute", "second"):
        if match[group]:
            names.append(f"{cardinal(int(match[group]))} {group if int(match[group]) == 1 else group + 's'}")
    return " ".join(names) if len(names) > 1 else None


def _say_minutes(match: Match) -> Said:
    """`45:12`: more than a day has hours."""
    if is_ratio(match):
        return None
    return (
        f"{cardinal(match['hour'])} {clock_words(0, match['minute'], False).removeprefix('zero ')}"
        if match["minute"] != "00"
        else f"{cardinal(match['hour'])} hundred"
    )


RULES: list[Rule] = [
    rule(r"(?P<hour>\d{1,2}):(?P<minute>[0-5]\d)\.(?P<part>\d{1,3})(?![\w:])", _say_lap),
    rule(
        rf"(?P<hour>\d{{1,3}}):(?P<minute>\d\d):(?P<second>\d\d(?:\.\d{{1,3}})?)(?:\s?(?P<half>{_HALF}))?(?:\s?(?P<zone>{_ZONE}|[ecmp]\.?[sd]\.?t)\b\.?|{_OFFSET})?(?![\w:])",
        _say_duration,
    ),
    rule(
        rf"{_CLOCK}(?:\s?(?P<half>{_HALF}))?(?P<to>{TO})(?P<hour2>\d{{1,2}})(?::(?P<minute2>[0-5]\d))?(?:\s?(?P<half2>{_HALF}|{_SINGLE}))?(?:\s?(?P<zone>{_ZONE})\b)?(?![\w:])",
        _say_time,
        re.IGNORECASE,
    ),
    rule(
        rf"(?P<hour>\d{{1,2}})(?P<minute>(?!))?(?:\s?(?P<half>{_HALF}|(?-i:[ap])\b(?=.{{1,9}}\d[ap]\b)))?(?P<to>{TO})(?P<hour2>\d{{1,2}})(?::(?P<minute2>[0-5]\d))?(?:\s?(?P<half2>{_HALF}|(?<=\d)(?-i:[ap])\b(?!['\w-]|\.\w)))?(?:\s?(?P<zone>{_ZONE})\b)?(?![\w:])",
        _say_time,
        re.IGNORECASE,
    ),
    rule(
        rf"{_CLOCK}(?:\s?(?P<half>{_HALF}))?(?:\s?(?P<zone>{_ZONE}|[ecmp]\.?[sd]\.?t)\b\.?)?(?![\w:])",
        _say_time,
        re.IGNORECASE,
    ),
    rule(
        rf"(?P<hour>\d{{1,2}})(?:\.(?P<minute>[0-5]\d))?\s?(?P<half>{_HALF})(?:\s?(?P<zone>{_ZONE})\b)?(?![\w:])",
        _say_time,
        re.IGNORECASE,
    ),
    rule(r"(?P<hour>\d{1,2})\.(?P<minute>[0-5]\d)(?![\w:%]|\.\d)", _say_train),
    rule(rf"(?P<first>{_DAYTIME})(?:{TO}(?P<second>{_DAYTIME}))?(?=\ ?h(?:rs|ours)\b(?!\ of))", _say_military),
    rule(r"(?P<hour>\d{2,3}):(?P<minute>[0-5]\d)(?![\w:])", _say_minutes),
    rule(
        r"(?:(?P<hour>\d{1,3})\ ?h(?:rs?)?\ ?(?=\d))?(?:(?P<minute>\d{1,2})\ ?m(?:in)?\b\ ?)?"
        r"(?:(?P<second>\d{1,2})\ ?s(?:ec)?\b)?(?!\w)",
        _say_hours,
    ),
]
