"""Rules around the grammar: before it, what people type and it does not know; after it, what it loses."""

from __future__ import annotations

import re
from collections.abc import Callable

from voicegraft.text.english.electronic import DIGITS
from voicegraft.text.english.sentences import STARTERS
from voicegraft.text.english.words import table, word_set

_Said = str | Callable[[re.Match[str]], str]

_MONTHS = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
]  # fmt: skip
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_TENS = ["ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_TITLES = table("titles")
_SHORT = table("short forms")
_STREETS = table("streets")
_COUNTED = table("counted")
_UNITS = table("units")
_RULERS = "|".join(sorted(word_set("rulers")))
_PARTS = "|".join(sorted(word_set("parts")))
# These need no stop before a name.
_RANKS = {short: _TITLES[short] for short in ("Prof", "Gov", "Sgt", "Lt", "Capt", "Cmdr", "Cpl", "Pvt", "Supt")}
_COMMANDS = table("commands")
_MONTH_STARTS = "|".join(name[:3] for name in _MONTHS)
_DAY_SHORT = "Mon|Tues?|Wed|Thu|Thurs?|Fri|Sat|Sun"
_UNDER_100 = r"(?:XL|XC|L?X{0,3})(?:IX|IV|V?I{0,3})"
_ROMAN = rf"(?=[IVXL]){_UNDER_100}(?![\w'])"
_NUMBER = r"\d[\d,]*(?:\.\d+)?"
_CURRENCY = "$£€¥₩"
# Words for symbols that no number explains.
_NAMES = {
    "&": "and", "%": "percent", "@": "at", "+": "plus", "=": "equals", "°": "degrees", "$": "dollar",
    "£": "pound", "€": "euro", "¥": "yen", "₩": "won", "₹": "rupee", "¢": "cent", "×": "times", "#": "hash",
    "/": "slash", "\\": "backslash", "<": "less than", ">": "greater than", "^": "to the power of",
    "_": "underscore",
}  # fmt: skip


def _one_of(words: dict[str, str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def _month(match: re.Match[str]) -> str:
    return next(name for name in _MONTHS if name.startswith(match.group(1)[:3]))


def _day(match: re.Match[str]) -> str:
    return next(name for name in _DAYS if name.startswith(match.group(1)[:3]))


def _roman_value(numeral: str) -> int:
    values = [{"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}[letter] for letter in numeral]
    return sum(-value if value < max(values[i:]) else value for i, value in enumerate(values))


def _ruler(match: re.Match[str]) -> str:
    value = _roman_value(match.group(2))
    ending = "th" if value % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
    return f"{match.group(1)} the {value}{ending}"


def _numeral(match: re.Match[str]) -> str:
    return f"{match.group(1)}{_roman_value(match.group(2))}"


def _initial(match: re.Match[str]) -> str:
    return match.group() if match.group(2).lower() in STARTERS else match.group(1)


def _date(match: re.Match[str]) -> str:
    """On 12/25 names a month and a day, and so does on 25/12."""
    first, second = int(match.group(2)), int(match.group(3))
    month, day = (first, second) if first <= 12 else (second, first)
    return f"{match.group(1)}{_MONTHS[month - 1]} {day}" if 1 <= month <= 12 and 1 <= day <= 31 else match.group()


def _range(match: re.Match[str]) -> str:
    first, second = int(match.group(1)), int(match.group(2))
    return f"{first} to {second}" if second > first or first < 100 else match.group()  # 978-0 is no range


def _unit(match: re.Match[str]) -> str:
    currency, number, unit = match.groups()
    if currency:
        return match.group()  # $5 m are millions
    head, per, tail = _UNITS[unit].partition(" per ")
    if number != "1" and not head.endswith(("hertz", "power")):
        head = head.replace("foot", "feet") if head.endswith("foot") else head + ("es" if head.endswith("ch") else "s")
    return f"{number} {head}{per}{tail}"


def _thousands(match: re.Match[str]) -> str:
    return f"{match[1]}{1000 * float(match[2].replace(',', '')):,.0f}"


def _groups(match: re.Match[str]) -> str:
    """Groups of digits, with a pause between."""
    return ", ".join(" ".join(DIGITS[int(digit)] for digit in group) for group in re.findall(r"\d+", match[0]))


def _decade(match: re.Match[str]) -> str:
    tens = _TENS[int(match.group(1)) - 1]
    return f"twenty {tens[:-1]}ies" if tens.endswith("y") else f"twenty {tens}s"


def _spell(match: re.Match[str]) -> str:
    return f" {' '.join(DIGITS[int(digit)] for digit in match.group())} "


def _compiled(rules: list[tuple[str, _Said]]) -> list[tuple[re.Pattern[str], _Said]]:
    return [(re.compile(pattern), said) for pattern, said in rules]


# On every sentence, whether or not it holds a number; the splitter has already seen to stops that end one.
_ALWAYS = _compiled(
    [
        (rf"(\d\w? (?:[A-Z][a-z]+ ){{1,3}})({_one_of(_STREETS)})\b\.?(?=\s*(?:$|[,;:?!\")]|[a-z]))",
         lambda m: m[1] + _STREETS[m[2]]),
        (r"(\d(?:st|nd|rd|th) )(St|Ave|Blvd|Rd)\b\.?", lambda m: m[1] + _STREETS[m[2]]),
        (r"\b(Mr|Mrs|Ms|Messrs)\b\.?(?=\s|$)", lambda m: _TITLES[m[1]]),
        (rf"\b({_one_of(_TITLES)})\.\s*(?=[A-Z])", lambda m: _TITLES[m[1]] + " "),
        (r"\bDr (?=[A-Z][a-z])", "Doctor "),
        (rf"(?<!\w)({_one_of(_SHORT)})(?=\s|$|[,;:?!\")]|\.(?:\s|$))", lambda m: _SHORT[m[1]]),
        (r"([A-Z][a-z]+ )(St|Ave|Blvd|Rd|Ln|Hwy|Pkwy|Sq|Ct|Pl)\.(?=\s*(?:$|[,;:?!\")]|[a-z]))",
         lambda m: m[1] + _STREETS[m[2]]),
        (rf"\b({_MONTH_STARTS}|Sept)\.(?=[\s,])", _month),
        (rf"\b({_DAY_SHORT})\b\.?(?=,? (?:{_MONTH_STARTS}|\d\d?(?:[ap]m|:\d)))", _day),
        (rf"\b({_DAY_SHORT})\.?[-–](?=(?:{_DAY_SHORT})\b)", lambda m: _day(m) + " to "),
        (rf"(?<=day to )({_DAY_SHORT})\b\.?", _day),
        (rf"\b((?:{_RULERS})(?: [A-Z][a-z]+)?) (?=[IVX]{{2}}|[VX])({_ROMAN})", _ruler),
        (r"\b((?:King|Queen|Pope|Emperor|Tsar|Kaiser|Prince) [A-Z][a-z]+) (I)(?![\w'])", _ruler),
        (rf"\b((?i:{_PARTS}) )(?!I\b)({_ROMAN})", _numeral),
        (r"\b(World War )(I)(?![\w'])", _numeral),
        (rf"\b((?:{_PARTS}|{_PARTS.upper()}) )(I)(?=\s*(?:$|[.,;:)–-]|of\b|and\b))", _numeral),
        (rf"\b([A-Z][a-z]+ )(?=[IVX]{{2}})({_ROMAN})", _numeral),
        (rf"(?<!\w)()(?=[MDCLXVI]{{4}})(M{{0,3}}(?:CM|CD|D?C{{0,3}}){_UNDER_100})(?![\w'])", _numeral),
        (r"\b(?:[A-Z]\.){2,}(?:[A-Z]\b)?", lambda m: m[0].replace(".", "")),
        (r"\b(?![ap]\.m\.)(?:[a-z]\.){2,}(?!\w)", lambda m: m[0].replace(".", "").upper()),
        (r"\b([ap])\.\s?m\b\.?(?!\.?\w)", lambda m: m[1].upper() + "M"),
        (r"(?<!\S)([A-Z])\.(?= [A-Z]\.)", r"\1"),
        (r"(?<!\S)([A-Z])\.(?= ([A-Z][a-z]+))", _initial),
        (r"\b([A-Z]{1,3})\s?&\s?([A-Z]{1,3})\b", r"\1 and \2"),
        (r"(?<=[a-z]{3})/(?=(?:h|hr|hour|s|sec|second|min|minute|day|week|month|year)\b)", " per "),
        (r"(?i)\b(he|his|him|yes|true|on)/(she|her|hers|no|false|off)\b", r"\1 or \2"),
        (r"(?<=[A-Za-z])/(?=[A-Za-z]{3})", " slash "),
        (r"\b([A-D])-(?=[\s.,;!?]|$)", r"\1 minus"),
        (r"#(?=[A-Za-z])", " hashtag "),
        (rf"\b({_one_of(_RANKS)}) (?=[A-Z][a-z])", lambda m: _RANKS[m[1]] + " "),
        # What programs and formulas are written with.
        (r"\\frac\{([^{}]{1,99})\}\{([^{}]{1,99})\}", r" \1 over \2 "),
        (rf"\\({_one_of(_COMMANDS)})(?![A-Za-z])", lambda m: f" {_COMMANDS[m[1]]} "),
        (r"\\(?=(?:alpha|beta|gamma|delta|epsilon|theta|lambda|mu|pi|rho|sigma|phi|psi|omega|infty)\b)", " "),
        (r"(?<![\w$])\$(?=[A-Za-z\\])([^$]{1,200})(?<=[\w)}])\$(?![\w$])", r" \1 "),
        (r"(?<=\s)(?:-|=)>(?=\s)", " to "),
        (r"(?<=\w)->(?=\w)", " dot "),
        (r"(?<![=!<>+*/-])===?(?!=)", " equals "),
        (r"(?<=[\w)\]])\s?!==?\s?(?=[\w(])", " is not equal to "),
        (r"(?<=[\w)\]])\s?<=\s?(?=[\w(-])", " at most "),
        (r"(?<=[\w)\]])\s?>=\s?(?=[\w(-])", " at least "),
        (r"(?<=\s)&&(?=\s)", " and "),
        (r"(?<=\s)\|\|(?=\s)", " or "),
        (r"(?<=\s)\|(?=\s)", " , "),
        (r"(?<=\w)\s?\+=\s?(?=\w)", " plus equals "),
        (r"(?<![\w*])(\w|\d+)\s?\*\s?(?=(?:\w|\d+)(?![\w*]))", r"\1 times "),
        (r"(?<!:)//+|/\*+|\*+/", " , "),
        (r"(?<=[A-Za-z0-9])_+(?=[A-Za-z0-9])", " "),
    ]
)  # fmt: skip
# On sentences with a digit, before the grammar.
_NUMERIC = _compiled(
    [
        (rf"(?i)\b({_one_of(_COUNTED)})\.\s?(?=\d)", lambda m: _COUNTED[m[1].lower()] + " "),
        (r"\b(Apt|Ste|Rm|Bldg|Fig|Vol) (?=\d)", lambda m: _COUNTED[m[1].lower()] + " "),
        (r"\b(?:Hwy|Rte)\.? (?=\d)", lambda m: "Highway " if m[0][0] == "H" else "Route "),
        (r"#\s?(?=\d)", " number "),
        (r"(?<!\w)\+(?!1\b)\d{1,3}(?:[ .-]?\(?\d{1,5}\)?){2,5}(?!\w)", lambda m: "plus " + _groups(m)),
        (r"(?<![\w.-])(?<!\) )(?<!\))(?<!\d )\d{3}-\d{4}(?![\w-])", _groups),
        (r"(?<![\w-])\d{4}(?:[ -]\d{4}){3}(?![\w-])", _groups),
        (r"(?<![\w.])1\.(\d{3})\.(\d{3})\.(?=\d{4}\b)", r"1-\1-\2-"),
        (r"\b(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(?::\d\d(?:\.\d+)?)?Z?\b", r"\1 \2"),
        (r"\bUSD\s?(?=\d)", "$"),
        (r"(?<=[.?!,;:])-(?=\d)", " minus "),
        (r"\bEUR\s?(?=\d)", "€"),
        (r"\bGBP\s?(?=\d)", "£"),
        (rf"([{_CURRENCY}])({_NUMBER})\s?[kK]\b", _thousands),
        (rf"(?<![$£€\d.,])({_NUMBER})\s?([€£])(?!\s?\d)", r"\2\1"),
        (rf"({_NUMBER})\s?¢", r"\1 cents"),
        (rf"₹\s?({_NUMBER}(?:\s?(?:thousand|million|billion|crore|lakh)\b)?)", r"\1 rupees"),
        (rf"(?<=[A-Za-z])-(?=[{_CURRENCY}])", " "),
        (rf"([{_CURRENCY}])({_NUMBER})\s?[-–]\s?(?=\d)", r"\1\2 to \1"),
        (r"(?<![\d.,])\d{17,}(?![\d.,]*\d)", _spell),
        (rf"(?<![\d.,:/{_CURRENCY}-])(?<![A-Z]{{2}} )[1-9]\d{{2,13}}00(?!\d|[.,:/-]\d|st|nd|rd|th)",
         lambda m: f"{int(m[0]):,}"),
        (r"(?<![\d.])(\d+)\.(\d+)\.(\d)(?![\d.])", r"\1 point \2 point \3"),
        (r"(?i)\b(v|version )(\d+)\.(\d+)\.(\d+)(?!\.?\d)", r"\1 \2 point \3 point \4"),
        (r"(?i)\b((?:on|by|until|since) )(\d{1,2})/(\d{1,2})(?![\d/]| of\b|\w)", _date),
        (r"(\d)\s?'\s?(\d{1,2})(?:\"|''|(?![\d'\w]))", r"\1 foot \2"),
        (r"(?<=%)\s?[-–]\s?(?=\d)|(?<=\d)\s?[-–]\s?(?=\d+(?:\.\d+)?%)", " to "),
        (r"(?<![\w.,:/$-])(\d{1,3})\s?[-–]\s?(\d{1,3})(?![\d:/=-]|[.,]\d|\s?=|[a-z]*\d)", _range),
        (r"(?:(?<=[ap]m)|(?<=[AP]M)|(?<=m\.)|(?<=\d,\d{3}))\s?[–-]\s?(?=\d)", " to "),
        (r"(?:(?<=\dst)|(?<=\d[nr]d)|(?<=\dth))\s?[–-]\s?(?=\d)", " to "),
        (r"(?<=\d)\s?–\s?(?=\d)", "-"),
        (r"(?<=\d)\s?[×x]\s?(?=10\^)|(?<=\d)\s?[×*x]\s?(?=\d[\d.]*\s?=)|(?<=\d)\s?\*\s?(?=\d)", " times "),
        (r"(?<=\d)(?<!\b0)(\s?(?:cm|mm|m|in|ft))?\s?[x×]\s?(?=\d)", r"\1 by "),
        (r"(?<=\d)x\b(?!\s?[=+*/)-])", " times"),
        (r"\^\s?2\b", " squared "),
        (r"\^\s?3\b", " cubed "),
        (r"\^\s?(?=[-\w(])", " to the power of "),
        (r"(?<=[\w)\]]) = (?=[\w(-])", " equals "),
        (r"\s<\s", " less than "),
        (r"\s>\s", " greater than "),
        (rf"~\s?(?=[{_CURRENCY}]?\d)", " about "),
        (r"(?<=\d)\+(?=\s|$|[,;.?!)])", " plus"),
        (r"(?<=\d)(?=[ECMP][SD]?T\b)", " "),
        (r"(?<![\d:])(\d{1,3}):(\d)(?![\d:])", r"\1 to \2"),
        (rf"([{_CURRENCY}]?)(?<![\w.,])({_NUMBER})\s?({_one_of(_UNITS)})(?![\w²³]|/\w)", _unit),
        (r"(?<=\d)V\b", " volts"),
        (r"(?<=\d)W\b", " watts"),
        (r"\b100s\b", "hundreds"),
        (r"\b1,?000s\b", "thousands"),
        (r"\b2000'?s\b", "two thousands"),
        (r"\b20([1-9])0'?s\b", _decade),
        (r"(?<![\d'])'?(\d0)'s\b", r"'\1s"),
        (r"(?<=\d(?:st|nd|rd|th))-(?=[A-Za-z])", " "),
    ]
)  # fmt: skip
_APOSTROPHE = re.compile(r"(?<![A-Za-z])'(?!(?i:tis|twas|em|til|cause|bout|round|n)\b)|'(?![A-Za-z])")
_TIDY = _compiled(
    [
        (r"[-=_*~#.·]{4,}|(?<=\s)[|*~^_`]+(?=\s)", " "),  # drawn lines, table borders
        (r"\d+", _spell),
        (r"--+|–+|(?<=\s)-+(?=\s)", " , "),
        (r"(?<![A-Za-z])-+|-+(?![A-Za-z])", " "),
        (r"[()\[\]{}]+(?=[\s.?!]*$)", ""),
        (r"[()\[\]{}]", " , "),
        (rf"[{re.escape(''.join(_NAMES))}]", lambda m: f" {_NAMES[m[0]]} "),
        (r"[^A-Za-z'.,?!;:\s-]", " "),
        (r"\s+", " "),
        (r" (?=[.,?!;:])", ""),
        (r"[,;:]+(?=[.?!;:])|(?<=[,;:.?!]),+", ""),
        (r"^[,;:.?!\s]+", ""),
        (r"([?!])[?!]+", r"\1"),
        (r"\.{4,}", "..."),
        (r"(?<=[,;:?!])(?=[A-Za-z])|(?<=[A-Za-z]\.)(?=[A-Z])", " "),
        (r"(?<=[A-Za-z])\.(?=[a-z])", " dot "),
    ]
)  # fmt: skip


def before_grammar(sentence: str) -> str:
    """Rewrites what the grammar misreads or does not know; needs no grammar itself."""
    for pattern, said in _ALWAYS:
        sentence = pattern.sub(said, sentence)
    if any(character.isdigit() for character in sentence):
        for pattern, said in _NUMERIC:
            sentence = pattern.sub(said, sentence)
    return sentence


def after_grammar(written: str, spoken: str) -> str:
    """Restores the capitals of months and joins the 's of "12's", which the grammar loses."""
    spoken = re.sub(r" '\s?s\b", "'s", spoken).replace("us dollar", "US dollar")
    for month in _MONTHS:
        end = rf"{month[1:3]}(?:{month[3:]}|t)?\b"
        is_small = re.search(rf"\b{month[0].lower()}{end}", written)
        if re.search(rf"\b{month[0]}(?i:{end})", written) and not is_small:
            spoken = re.sub(rf"\b{month.lower()}\b", month, spoken)
    return spoken


def tidy(spoken: str) -> str:
    """Leaves only what a voice reads: letters, inner apostrophes and hyphens, and . , ? ! ; :"""
    spoken = _APOSTROPHE.sub(" ", spoken.replace('"', " "))
    for pattern, said in _TIDY:
        spoken = pattern.sub(said, spoken)
    return spoken.strip() if any(character.isalpha() for character in spoken) else ""
