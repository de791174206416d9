"""Numbers in words. Nothing here knows what a number stands for."""

from __future__ import annotations

import re
from dataclasses import dataclass

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SMALL = (
    *DIGITS, "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = ("", "thousand", "million", "billion", "trillion", "quadrillion", "quintillion")
_MOST_DIGITS = 3 * len(_SCALES)
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip
SPACES = " \u00a0"  # what parts groups of digits, besides commas; thin spaces are folded to the second
_GROUPED = r"\d{1,3}(?:,\d{3})+(?![\d])|\d{1,2}(?:,\d\d){1,4},\d{3}(?!\d)|\d{1,3}(?:['_]\d{3})+(?![\w'])"
# A number as it is written: 1,234.5  1'000  .5  007  1 000 (groups parted by plain spaces are taken by who knows better)
NUMBER = rf"(?:(?:{_GROUPED}|\d{{1,3}}(?:\u00a0\d{{3}})+(?!\d)|\d{{1,40}})(?:\.\d{{1,40}})?(?!\d)|(?<!\d)\.\d{{1,40}})"
SPACED = r"\d{1,3}(?:[ ]\d{3})+(?![\d,.]?\d)(?:\.\d{1,9})?"
_SEPARATOR = re.compile(rf"[,'_{SPACES}]")


@dataclass(frozen=True)
class Number:
    """What a written number says: its whole digits and the digits after the point."""

    whole: str
    decimals: str | None
    is_grouped: bool  # 1,000: a quantity, never a year or a code

    @property
    def value(self) -> int:
        return int(self.whole or "0")

    @property
    def is_one(self) -> bool:
        return self.value == 1 and self.decimals is None

    def say(self, joint: str = " and ") -> str:
        """As a quantity: `1,234.50` is one thousand two hundred and thirty four point five zero."""
        words = cardinal(self.whole, joint) if self.whole else ""
        return words if self.decimals is None else f"{words} point {digits(self.decimals)}".strip()


def parse(written: str) -> Number:
    """Of text that `NUMBER` or `SPACED` matches."""
    bare = _SEPARATOR.sub("", written)
    whole, point, decimals = bare.partition(".")
    return Number(whole, decimals if point else None, len(bare) < len(written))


def digits(written: str) -> str:
    """One by one; what is no digit is not said."""
    return " ".join(DIGITS[int(digit)] for digit in written if digit.isdecimal())


def _below_thousand(value: int, joint: str) -> str:
    hundreds, rest = divmod(value, 100)
    words = [f"{DIGITS[hundreds]} hundred"] if hundreds else []
    if rest:
        tens = f"{_TENS[rest // 10]} {DIGITS[rest % 10] if rest % 10 else ''}".strip()
        words.append(_SMALL[rest] if rest < 20 else tens)
    return joint.join(words)


def cardinal(written: str | int, joint: str = " and ") -> str:
    """A whole number; one with zeros in front or without a name digit by digit.

    Args:
        joint: what stands before the last two digits: one hundred and five.
    """
    text = str(written)
    if len(text) > _MOST_DIGITS or (text.startswith("0") and len(text) > 1):
        return digits(text)
    value = int(text)
    if not value:
        return "zero"
    groups = []
    for scale in _SCALES:
        value, group = divmod(value, 1000)
        if group:
            groups.append(f"{_below_thousand(group, ' ' if scale else joint)} {scale}".strip())
        if not value:
            break
    last = int(text[-3:])
    if 0 < last < 100 and len(text) > 3 and int(text[-6:-3]):
        groups[0] = joint.strip() + " " + groups[0]
    return " ".join(reversed(groups)).replace("  ", " ")


def ordinal(value: int) -> str:
    """`21` is twenty first."""
    head, _, last = cardinal(value, " ").rpartition(" ")
    if last in _ORDINALS:
        last = _ORDINALS[last]
    else:
        last = f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th"
    return f"{head} {last}".strip()


def pairs(written: str) -> str:
    """Three or four digits as houses, rooms, and flights have them: `1408` is fourteen oh eight, `305` three oh five."""
    head, tail = written[:-2], written[-2:]
    if head.startswith("0"):
        return digits(written)
    if tail == "00":
        return cardinal(written) if head.endswith("0") else f"{cardinal(head)} hundred"
    return f"{cardinal(head)} {f'oh {DIGITS[int(tail)]}' if tail[0] == '0' else cardinal(tail)}"


def year(value: int) -> str:
    """`1905` is nineteen oh five, `2005` two thousand five, `2024` twenty twenty four."""
    if value < 1000 or value % 1000 < 10:
        return cardinal(value, " ")
    return pairs(str(value))


def fraction_words(over: int, under: int, mixed: bool = False) -> str:
    """`3/4` is three quarters; after a whole number `1/2` is a half."""
    if mixed and (over, under) == (1, 2):
        return "a half"
    if under in (0, 1) or under % 100 == 1 or max(over, under) > 9999:
        return f"{cardinal(over)} over {cardinal(under)}"
    name = {2: "half", 4: "quarter"}.get(under) or ordinal(under)
    if over != 1:
        name = "halves" if under == 2 else f"{name}s"
    return f"{cardinal(over)} {name}"


def plural(words: str) -> str:
    """Of the last word: twenties, sixes, feet, inches."""
    head, _, last = words.rpartition(" ")
    if last in _PLURALS or last.endswith("hertz"):
        last = _PLURALS.get(last) or last
    elif last.endswith("y") and last[-2] not in "aeou":
        last = f"{last[:-1]}ies"
    else:
        last += "es" if last.endswith(("x", "ch", "s")) else "s"
    return f"{head} {last}".strip()


_PLURALS = {
    "foot": "feet", "penny": "pence", "krone": "kroner",
    **dict.fromkeys(("CC", "dozen", "each", "yen", "won", "yuan", "baht", "rand", "horsepower")),
}  # fmt: skip
