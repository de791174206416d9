"""Words that stand for longer ones: titles, streets, states, short forms, initials, and citations of verses."""

from __future__ import annotations

import re

from voicegraft.text.english.numbers import cardinal, digits
from voicegraft.text.english.sentences import STARTERS
from voicegraft.text.english.tokens import Match, Piece, Rule, Said, after, before, one_of, rule
from voicegraft.text.english.words import table, word_set
from voicegraft.text.patterns import lazy

_TITLES = table("titles")
_STREETS = table("streets")
_DIRECTIONS = table("directions")
_STATES = table("states")
_OLD_STATES = table("old states")
_IN_STATE, _AVENUE = lazy(r"[a-z], $|\b[DRI]-$"), lazy(r" (?:Ave|Avenue|St|Street|Pike)\b")
_COUNTED = table("counted")
_SHORT = table("short forms")
_BOOKS = table("scripture")
_STREET_WORDS = one_of(word_set("street words"))
_FULL_BOOKS = set(_BOOKS.values()) | word_set("books")
_RANKS = frozenset(("Prof", "Gov", "Sgt", "Lt", "Capt", "Cmdr", "Cpl", "Pvt", "Supt", "Dr", "Rev"))
_NEEDS_STOP = word_set("needs stop")
_AFTER_NAME = lazy(r"(?:(?<![\w.])[A-Z][\w'-]*[a-z]\.?|\b\d{1,3}(?:st|nd|rd|th)|\b[A-Z]'?s?|[A-Z]{2,}) $")
_ADDRESS_GOES_ON = lazy(
    r",?\ (?:Apt|Suite|Ste|Unit|Room|Rm|Floor|Fl|[NS][EW]|[NSEW]|North|South|East|West|\#|\d)\b|,?\ \#", re.VERBOSE
)
_STREET_AHEAD = lazy(
    rf"\ (?:[A-Z][\w'.-]*\ |\d{{1,3}}(?:st|nd|rd|th)\ ){{1,4}}?(?i:{one_of(_STREETS)}|{_STREET_WORDS})\b", re.VERBOSE
)
_NUMBERED_STREET = lazy(rf"\ \d{{1,3}}(?:st|nd|rd|th)\ (?i:{one_of(_STREETS)}|{_STREET_WORDS})\b", re.VERBOSE)
_STREET_BEHIND = lazy(rf"\b(?:{one_of(_STREETS)}|{_STREET_WORDS})\.?,?\ $", re.VERBOSE)
_CROSSES = lazy(rf"\b(?:{one_of(_STREETS)}|{_STREET_WORDS})\.?\ (?:&|and|at)\ $", re.VERBOSE)
_WIND = lazy(r"\ (?:at )?\d+ ?(?:mph|kts?|knots|km/h)|\ winds?\b")
_NEXT_NAME = lazy(r"\ [A-Z]")
_HOUSE_BEFORE = lazy(r"\b\d{1,5}[A-Z]?\ (?:[NSEW]{1,2}\.?\ )?(?:[A-Z][\w'.-]*\ ){1,3}$", re.VERBOSE)
_SURE_STREETS = frozenset(_STREETS) - frozenset(
    ["St", "Dr", "Ct", "Pl", "Sq", "Av", "Ter", "Cir", "Str", "Aly", "Ctr", "Crt"]
)


def _say_title(match: Match) -> Said:
    """`Dr. Lee`, `Rev. King`, `MR. LEE`; what stands before no name is none."""
    short = match["title"]
    name = short.capitalize() if short.isupper() else short
    tail = after(match)
    if name not in _TITLES or (
        short.isupper()
        and len(short) > 1
        and name
        not in (
            "Mr",
            "Mrs",
            "Ms",
            "Dr",
            "St",
            "Mt",
            "Ft",
            "Lt",
            "Sgt",
            "Prof",
            "Capt",
            "Gen",
            "Col",
            "Rev",
            "Gov",
            "Sen",
            "Rep",
        )
    ):
        return None
    if name in ("Mr", "Mrs", "Ms", "Mx", "Messrs"):
        return _TITLES[name]
    stop = match["stop"]
    follows = re.match(r"\s*[A-Z]", tail)
    if name == "Sr" and re.search(r"[A-Z][a-z]+,? $", before(match)):
        return None
    if name == "Fr" and not stop:
        return None
    if not follows or not (
        stop or (name in _RANKS and re.match(r"\ [A-Z][a-z]", tail)) or (short.isupper() and name in ("St", "Mt", "Dr"))
    ):
        if name == "Dr" and re.search(r"\b(?:[Tt]he|[Aa]|[Mm]y|[Yy]our|[Hh]is|[Hh]er|[Oo]ur)\ $", before(match)):
            return "Doctor"
        return None
    return _TITLES[name]


def _say_street(match: Match) -> Said:
    """`Wall St`, `5th Ave.`, `12 Elm Dr. Apt 4`; before a name `St` is a saint and `Dr` a doctor."""
    short, ahead, tail = match["street"], before(match), after(match)
    name = short.capitalize()
    if name not in _STREETS:
        return None
    has_name = _AFTER_NAME.search(ahead)
    if name in _SURE_STREETS:
        fits = has_name or _HOUSE_BEFORE.search(ahead)
        return _STREETS[name] if fits and not (name == "Hwy" and re.match(r"\ \d", tail)) else None
    if not has_name or re.search(
        r"(?:^|[.?!:]\ )(?:The|A|An|In|At|On|To|From|Visit|See|And|Of|For|By|With|Near)\ $", ahead
    ):
        return None
    if (
        not _NEXT_NAME.match(tail)
        or _ADDRESS_GOES_ON.match(tail)
        or _HOUSE_BEFORE.search(ahead)
        or re.search(r"\d(?:st|nd|rd|th)\ $", ahead)
    ):
        return _STREETS[name]
    return None


def _say_direction(match: Match) -> Said:
    """`742 N. Oak Rd.`, `E 42nd St`, `Elm St NW`, `NW 15 mph`."""
    ahead, tail = before(match), after(match)
    leads = re.search(r"(?:^|\s)\d{1,5}[A-Z]? $", ahead) and (
        _STREET_AHEAD.match(tail) or re.match(r" (?:Broadway|Main|Market|Center)\b", tail)
    )
    leads = leads or re.search(r"\b(?:Hwy|Highway|Route|Rte|Interstate|US)\.? \d{1,3} $|\bI-\d{1,3} $", ahead)
    if leads or _NUMBERED_STREET.match(tail) or (_STREET_BEHIND.search(ahead) and re.match(r"[.,\s]|$", tail)):
        return _DIRECTIONS[match["direction"]]
    crosses = re.match(r"[NSEW]\.?\ [A-Z][a-z]+", match.group() + tail) and _CROSSES.search(ahead)
    return _DIRECTIONS[match["direction"]] if crosses or _WIND.match(tail) else None


def _say_state(match: Match) -> Said:
    """`CA 95051`; a state at the end of an address."""
    ahead, tail = before(match), after(match)
    if not re.search(r"[A-Za-z],? $", ahead):
        return None
    zip_code = re.match(r"\ \d{5}(?:-\d{4})?\b", tail)
    if zip_code or (re.search(r"\d.*[A-Z][a-z]+, $", ahead) and re.match(r"[.,;]|$|\ USA\b", tail)):
        return _STATES[match["state"]]
    return None


def _say_old_state(match: Match) -> Said:
    """`Phoenix, Ariz.`, `D-Calif.`"""
    return _OLD_STATES[match.group()] if _IN_STATE.search(before(match)) or _AVENUE.match(after(match)) else None


def _say_zip(match: Match) -> Said:
    first, _, rest = match["zip"].partition("-")
    return digits(first) + (f", {digits(rest)}" if rest else "")


def _say_counted(match: Match) -> Said:
    """`No. 7`, `pp. 12`, `Vol. II`, `Apt 4B`, `fig. 3`."""
    short, tail = match["counted"], after(match)
    key = short.lower()
    stop = match["stop"]
    if key not in _COUNTED:
        return None
    if key in _NEEDS_STOP and not stop and not (key == "v" and re.match(r"\ \d+\.\d", tail)):
        return None
    if key == "v" and re.search(r"[\w.]\ $", before(match)) and not re.match(r"\ ?\d+\.\d", tail):
        return None
    if key in ("c", "ca") and not re.match(r"\s?\d", tail):
        return None
    if key == "no" and re.match(r"\ I\ [a-z]", tail):
        return None  # No. I should like to
    words = _COUNTED[key]
    if key == "v" and re.search(r"(?i)\bch(?:ap(?:ter)?)?s?\.? \d+,? $", before(match)):
        words = "verse"
    plural = key in ("pp", "figs", "nos", "chs", "secs", "eqs", "vols", "pgs", "chaps")
    if key == "p" and re.match(r"\s?\d+\s?[-–]\s?\d", tail) and not plural:
        words = "pages"
    return words.capitalize() if short[0].isupper() else words


def _say_short(match: Match) -> Said:
    return _SHORT[match["short"]]


def _say_initials(match: Match) -> Said:
    """`U.S.`, `V.I.P.`, `a.k.a.`, `p.m.`: together and without stops."""
    letters = match.group().replace(".", "").replace(" ", "")
    return letters.upper()


def _say_half(match: Match) -> Said:
    return f"{match['half'].upper()}M"


def _say_initial(match: Match) -> Said:
    """`J. R. R. Tolkien`: an initial has no stop; `Plan B. It` has."""
    following = re.match(r" ([A-Z])(\.|[a-z'-]+)", after(match))
    if not following:
        return None
    word = following[1] + following[2]
    return None if word.lower() in STARTERS and not word.endswith(".") else match["letter"]


def _say_pair(match: Match) -> Said:
    """`AT&T`."""
    return f"{match[1]} and {match[2]}" + ("'s" if match[3] else "")


def _say_verse(match: Match) -> Said:
    """`John 3:16`, `1 Cor. 13:4-7`, `Ps. 23`: three sixteen, First Corinthians thirteen four to seven."""
    book = _BOOKS.get(match["book"], match["book"])
    if match["verse"] is None:
        return None
    said = [Piece(book, match.start("book"), match.end("book"))]
    if match["which"]:
        which = match["which"]
        said.insert(
            0,
            Piece(
                {"1": "First", "2": "Second", "3": "Third", "I": "First", "II": "Second", "III": "Third"}[which],
                match.start("which"),
                match.end("which"),
            ),
        )
    words = f"{cardinal(match['chapter'])} {cardinal(match['verse'])}"
    if match["until"]:
        words += f" to {cardinal(match['until'])}" + (
            f" {cardinal(match['untilverse'])}" if match["untilverse"] else ""
        )
    return [*said, Piece(words, match.start("chapter"), match.end())]


def _groups(match: Match) -> str:
    """Groups of digits, with a pause between."""
    return ", ".join(digits(group) for group in re.findall(r"\d+", match.group()))


def _say_phone(match: Match) -> Said:
    plus = "plus " if match.group().lstrip("(").startswith("+") else ""
    written = match.group()
    said = []
    for group in re.findall(r"\d+|[A-Z]{2,}", written.split("x")[0].split("ext")[0]):
        said.append("eight hundred" if group == "800" else digits(group) if group.isdigit() else group)
    extension = re.search(r"(?:x|ext\.?)\s?(\d+)$", written)
    return plus + ", ".join(said) + (f", extension {digits(extension[1])}" if extension else "")


def _say_card(match: Match) -> Said:
    return _groups(match)


def _say_with_number(match: Match) -> Said:
    """`401(k)`."""
    return f"four oh one {match['letter']}" if match["first"] == "401" else f"four oh three {match['letter']}"


_EXTENSION = r"(?:,?\s?(?:x|ext\.?)\s?\d{1,6})?"
PHONE_RULES: list[Rule] = [
    rule(r"(?P<first>401|403)\((?P<letter>[kb])\)", _say_with_number),
    rule(rf"(?:\+?1[ .-]?)?\(\d{{3}}\)[ .-]?\d{{3}}[ .-]\d{{4}}{_EXTENSION}(?!\w|-\d{{2}})", _say_phone),
    rule(rf"(?:\+?1[ .-])?\d{{3}}([.-])\d{{3}}\1\d{{4}}(?:-\d{{1,4}})?{_EXTENSION}(?!\w|[.-]\d)", _say_phone),
    rule(rf"(?:\+?1[ .-])?\d{{3}}\ \d{{3}}[ -]\d{{4}}{_EXTENSION}(?!\w|[.-]\d)", _say_phone),
    rule(r"1-\d{3}-(?=[\dA-Z-]*[A-Z])[\dA-Z]{1,10}(?:-[\dA-Z]{1,8}){0,3}(?!\w)", _say_phone),
    rule(r"\+(?!1\b)(?=(?:[ ().-]{0,2}\d){7})\d{1,3}(?:[ .-]?\(?\d{1,5}\)?){2,5}(?!\w)", _say_phone),
    rule(r"\+?\d{1,3}\ \(0?\d{2,4}\)\ \d{3,4}[ -]\d{3,4}(?!\w)", _say_phone),
    rule(r"(?<!\d[ ])\d{3}-\d{4}(?![\w-])", _say_card),
    rule(r"\d{4}(?:[ -]\d{4}){3}(?![\w-])", _say_card),
    rule(r"\d{3}-\d{2}-\d{4}(?![\w-])", _say_card),
    rule(r"\d{1,7}(?:-\d{1,7}){3,6}(?![\w-]|\s?=)", _say_card),
    rule(r"0\d{2,4}[ -]\d{3,4}[ -]?\d{3,4}(?![\w-])", _say_card),
    rule(r"(?P<one>9)-(?P<two>1)-(?P<three>1)(?![\w-])", lambda m: digits(m.group())),
    rule(r"(?P<zip>\d{5}-\d{4})(?![\w-])", _say_zip),
]
_HALF_END = r"(?!\.?\w)"
FIRST_RULES: list[Rule] = [
    rule(
        rf"(?:(?P<which>[123]|I{{1,3}})\ )?(?P<book>{one_of(_BOOKS)}|{one_of(_FULL_BOOKS)})\.?\ "
        r"(?P<chapter>\d{1,3}):(?P<verse>\d{1,3})"
        r"(?:\s?[-–]\s?(?P<until>\d{1,3})(?::(?P<untilverse>\d{1,3}))?)?(?![\w:]|\ ?[ap]\.?m)",
        _say_verse,
    ),
    rule(
        r"c/o(?=\s)",
        lambda m: (
            "complains of"
            if re.search(r"(?i)\b(?:pt\.?|patient|s?he|who|(?:fe)?male|man|woman)\ $", before(m))
            else None
        ),
    ),
    rule(rf"(?P<short>{one_of(_SHORT)})(?=[\s,;:?!\")+/]|$|\.(?:\s|$)|'s\b)", _say_short),
]
RULES: list[Rule] = [
    rule(r"(?P<half>[apAP])\.\s?[mM]\b\.?" + _HALF_END, _say_half),
    rule(
        rf"(?P<street>(?:{one_of(_STREETS)})|BLVD|AVE|RD|ST|LN|DR|CT|HWY|PKWY"
        r"|(?<=\d(?:st|nd|rd|th)[ ])(?:st|ave|blvd|rd))\b\.?(?![\w'])",
        _say_street,
    ),
    rule(r"(?P<title>[A-Z][A-Za-z]{1,5})\b(?P<stop>\.)?(?![\w'-])", _say_title),
    rule(r"(?P<direction>[NS][EW]|[NSEW])\b(?!\.[A-Z])\.?(?![\w'-])", _say_direction),
    rule(one_of(_OLD_STATES), _say_old_state),
    rule(r"(?<=\d(?:st|nd|rd|th)[ ])Fl\b\.?", lambda m: "Floor", re.IGNORECASE),
    rule(r"(?<=\d(?:st|nd|rd|th)[ ])c\.(?=\s|,|$)", lambda m: "century"),
    rule(
        r"(?:[Pp]ts?\.?)(?=\ (?:is|was|are|were|has|had|reports?|den(?:y|ies)|presents?|states|complains?|c/o)\b)",
        lambda m: "patients" if "s" in m.group() else "patient",
    ),
    rule(r"pen\.?(?=[),;])", lambda m: "penalty" if re.search(r"\d'\ \(?$", before(m)) else None),
    rule(
        r"(?P<life>[bdm])\.(?=\ (?:c\.\ ?|in\ )?(?:\d{4}|(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z.]*\ \d))",
        lambda m: {"b": "born", "d": "died", "m": "married"}[m["life"]],
    ),
    rule(r"Ret\.(?=\)|,)", lambda m: "Retired"),
    rule(r"(?:d|def)\.(?=\ [A-Z][\w'. -]*\ \d{1,2}[-–]\d)", lambda m: "defeated"),
    rule(r"Rd\.?(?=\ \d{1,2}(?:[,:;]|\ of\b|$))", lambda m: None if _AFTER_NAME.search(before(m)) else "Round"),
    rule(
        r"[Mm]ed\.?(?=\ (?:heat|high|low|flame|onions?|eggs?|bowl|speed|size)\b|-(?:high|low|size)|/)",
        lambda m: "medium",
    ),
    rule(r"incl\.(?=[\s,;)]|$)", lambda m: "including" if re.match(r"\ \w", after(m)) else "included"),
    rule(rf"(?P<state>{one_of(_STATES)})\b\.?(?![\w'-])", _say_state),
    rule(
        rf"(?P<counted>(?i:{one_of(_COUNTED)}))(?P<stop>\.)?"
        r"(?=\s?\#?\d|\ ?[A-Z]?\d|\ [IVXLC]+\b|\ [ivxlc]+\b|\ [A-Z]\b|[IVXLC]+\b(?<=\.))",
        _say_counted,
    ),
    rule(r"(?:[A-Z]\.){2,}(?:[A-Z]\b(?!'))?(?![a-z])|(?:[A-Z]\.)+[A-Z]\b(?![.'])", _say_initials),
    rule(r"(?:[a-z]\.){2,}(?!\w)", _say_initials),
    rule(r"(?P<letter>[A-Z])\.(?=\ [A-Z])", _say_initial),
    rule(r"([A-Z]{1,3})\s?&\s?([A-Z]{1,3})(s)?\b(?!\w)", _say_pair),
]
