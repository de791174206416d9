"""Questions with short spoken answers: from templates, from dialogues and from two public sets.

What is asked is small enough for a model of a few million parameters, and held back so that right answers
mean something: a test question never shares its facts with a training question (`is_held_out` and its
callers). Numbers are in words throughout the made-up questions.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from voicegraft.core.errors import VoicegraftError
from voicegraft.data.corpora import dialogues, typewritten
from voicegraft.data.splits import hash_share

HELD_OUT = 0.12  # share of facts kept for the test

_TABLE: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("question_words.yaml").read_text(encoding="utf-8"))
_TENS = ("twenty", "thirty", "forty")
NUMBERS: tuple[str, ...] = (
    *_TABLE["ones"],
    *(f"{ten} {one}".removesuffix(" zero") for ten in _TENS for one in _TABLE["ones"][:10]),
)
TIMES = tuple(
    f"{part}{hour}{after}"
    for hour in NUMBERS[1:13]
    for part, after in (("", " o'clock"), ("half past ", ""), ("a quarter past ", ""), ("a quarter to ", ""))
)
OPTIONS = NUMBERS[1:5]  # how the choices of a trivia question are called
THINGS, PLANTS = tuple(_TABLE["things"]), tuple(_TABLE["plants"])
OPPOSITES = {a: b for pair in _TABLE["opposites"] for a, b in (pair.split(), pair.split()[::-1])}

# The fixed set of answers per type: what a recogniser of spoken answers has to choose from.
ANSWERS: dict[str, tuple[str, ...]] = {kind: tuple(words) for kind, words in _TABLE["answers"].items()}
NAMES, CITIES, DAYS, MONTHS = (ANSWERS[kind] for kind in ("name", "city", "day", "month"))
COLOURS, ANIMALS, FOODS = (ANSWERS[kind] for kind in ("colour", "animal", "food"))
_GROUPS = {
    "animal": ANIMALS[:16],
    "colour": COLOURS,
    "thing to eat": FOODS[:10],
    "thing in a house": THINGS,
    "plant": PLANTS,
    "number": NUMBERS[1:20],
    "day": DAYS,
    "month": MONTHS,
}
_GROUPED = (*ANIMALS, *FOODS, *THINGS, *PLANTS, *COLOURS, *DAYS, *MONTHS)
ANSWERS |= {
    "time": TIMES,
    "number": NUMBERS,
    "word": tuple(dict.fromkeys((*_GROUPED, *OPPOSITES, *NUMBERS[1:20]))),
    "option": OPTIONS,
    "yes or no": ("yes", "no"),
}

# Per answer type: what is said of a person, how to ask for it, how to ask for the person.
_FACTS: dict[str, list[tuple[str, str, str]]] = _TABLE["facts"]
_MENTIONS = {
    "city": "Which city is that about?",
    "day": "Which day is that about?",
    "cuisine": "Which kind of food is that about?",
}
_EATING = re.compile(r"food|eat|restaurant|cuisine|dinner|lunch|dine|meal")


@dataclass(frozen=True)
class Question:
    kind: str  # reading, new names, dialogue, arithmetic, words, trivia, yes or no
    text: str  # what is asked, with its context
    answer: str  # a few words
    answer_type: str  # key of `ANSWERS`
    held_out: bool  # for the test


def is_held_out(key: str) -> bool:
    return hash_share(f"question {key}") < HELD_OUT


def reading(draw: random.Random) -> Question:
    """One to three facts about people, then a question on one of them. The answer is read from the context.

    Facts are held out by their combination. Names and cities that are held out themselves never occur in
    training questions; questions that ask for one are of the kind "new names".
    """
    num_facts = draw.choices((1, 2, 3), (0.4, 0.4, 0.2))[0]
    names = draw.sample(NAMES, num_facts)
    same = draw.random() < 0.5  # the same fact of every person, so that only the name tells them apart
    types = [draw.choice(list(_FACTS))] * num_facts if same else draw.choices(list(_FACTS), k=num_facts)
    facts = [draw.choice(_FACTS[types[0]])] * num_facts if same else [draw.choice(_FACTS[t]) for t in types]
    values = [draw.choice(NUMBERS[2:] if t == "number" else ANSWERS[t]) for t in types]
    context = " ".join(f[0].format(n=n, x=x) for f, n, x in zip(facts, names, values, strict=True))
    context = context[0].upper() + context[1:]
    i = draw.randrange(num_facts)
    ask_who = draw.random() < 0.3 and values.count(values[i]) == 1
    question = facts[i][2 if ask_who else 1].format(n=names[i], x=values[i])
    answer, answer_type = (names[i], "name") if ask_who else (values[i], types[i])
    if not _is_new(answer_type, answer) and any(map(_is_new, ["name"] * num_facts + types, names + values)):
        return reading(draw)  # a new name beside the point would blur which kind this is
    if _is_new(answer_type, answer):
        return Question("new names", f"{context} {question}", answer, answer_type, held_out=True)
    return Question("reading", f"{context} {question}", answer, answer_type, is_held_out(context))


def _is_new(answer_type: str, value: str) -> bool:
    return answer_type in ("name", "city") and is_held_out(f"{answer_type} {value}")


def arithmetic(draw: random.Random) -> Question:
    """Sums, differences, order, comparison and counting with small numbers; operands are held out."""
    kind = draw.choices(("plus", "minus", "next", "compare", "count"), (0.4, 0.25, 0.08, 0.17, 0.1))[0]
    if kind in ("plus", "minus"):
        low, high = draw.randint(0, 12), draw.randint(0, 12)
        total = low + high  # both operations hold out the same triples: a difference may not give a sum away
        triple = f"sum {min(low, high)} {max(low, high)}"
        a, b, c = (low, high, total) if kind == "plus" else (total, low, high)
        name, thing = draw.choice(NAMES), draw.choice(("apples", "books", "eggs", "coins", "stamps", "balls"))
        forms = {
            "plus": (
                "What is {a} plus {b}?",
                "How much is {a} and {b}?",
                "Add {a} and {b}.",
                "{n} has {a} {t} and gets {b} more. How many {t} does {n} have now?",
            ),
            "minus": (
                "What is {a} minus {b}?",
                "Take {b} from {a}.",
                "{n} had {a} {t} and gave away {b}. How many {t} are left?",
            ),
        }
        text = draw.choice(forms[kind]).format(a=NUMBERS[a], b=NUMBERS[b], n=name, t=thing)
        return Question("arithmetic", text, NUMBERS[c], "number", is_held_out(triple))
    if kind == "next":
        n, after = draw.randint(1, 48), draw.random() < 0.5
        text = f"Which number comes {'after' if after else 'before'} {NUMBERS[n]}?"
        return Question("arithmetic", text, NUMBERS[n + 1 if after else n - 1], "number", is_held_out(text))
    if kind == "compare":
        a, b = draw.sample(range(1, 50), 2)
        bigger = draw.random() < 0.5
        text = f"Which is {'bigger' if bigger else 'smaller'}, {NUMBERS[a]} or {NUMBERS[b]}?"
        pair = f"compare {min(a, b)} {max(a, b)}"
        return Question("arithmetic", text, NUMBERS[max(a, b) if bigger else min(a, b)], "number", is_held_out(pair))
    num, other = draw.randint(1, 6), draw.randint(0, 3)
    wanted, distractor = draw.sample(THINGS, 2)
    items = [wanted] * num + [distractor] * other
    draw.shuffle(items)
    text = f"How many times do I say {wanted}: {', '.join(items)}?"
    return Question("arithmetic", text, NUMBERS[num], "number", is_held_out(f"count {items}"))


def words(draw: random.Random) -> Question:
    """Opposites, groups, places in a list, order of days; wording and combinations are held out."""
    kind = draw.choices(("opposite", "group", "place", "calendar"), (0.3, 0.4, 0.2, 0.1))[0]
    if kind == "opposite":
        word = draw.choice(list(OPPOSITES))
        text = draw.choice(
            (
                "What is the opposite of {w}?",
                "Tell me the opposite of {w}.",
                "If it is not {w}, what is it?",
                "Which word means the opposite of {w}?",
                "{w} is one thing. What is the contrary?",
            )
        ).format(w=word)
        return Question("words", text[0].upper() + text[1:], OPPOSITES[word], "word", is_held_out(text))
    if kind == "group":
        group = draw.choice(list(_GROUPS))
        right = draw.choice(_GROUPS[group])
        others = [draw.choice(_GROUPS[g]) for g in draw.sample([g for g in _GROUPS if g != group], 2)]
        items = draw.sample([right, *others], 3)
        text = f"Which of these is a {group}: {items[0]}, {items[1]} or {items[2]}?".replace("a animal", "an animal")
        return Question("words", text, right, "word", is_held_out(f"group {sorted(items)}"))
    if kind == "place":
        items = draw.sample(THINGS + ANIMALS + PLANTS, draw.randint(2, 4))
        place, index = draw.choice((("first", 0), ("second", 1), ("last", -1)))
        text = f"Which word is {place}: {', '.join(items)}?"
        return Question("words", text, items[index], "word", is_held_out(f"place {sorted(items)}"))
    ring = draw.choice((DAYS, MONTHS))
    i, after = draw.randrange(len(ring)), draw.random() < 0.5
    unit = "day" if ring is DAYS else "month"
    form = draw.choice(
        (
            "Which {u} comes {o} {x}?",
            "What {u} is {o} {x}?",
            "Tell me the {u} {o} {x}.",
            "It is {x}. Which {u} is right {o} that?",
        )
    )
    text = form.format(u=unit, o="after" if after else "before", x=ring[i])
    return Question("words", text, ring[(i + (1 if after else -1)) % len(ring)], "word", is_held_out(text))


def dialogue_mentions(path: Path, held_out: bool) -> Iterator[Question]:
    """What turns of real dialogues are about: those without digits that name a city, day or kind of food."""
    finders = {t: re.compile(rf"\b(?:{'|'.join(sorted(ANSWERS[t], key=len, reverse=True))})\b") for t in _MENTIONS}
    seen = set()
    for dialogue in dialogues(path):
        for _, turn in dialogue:
            text = typewritten(turn)
            if text in seen or len(text) > 160 or re.search(r"\d", text):
                continue
            seen.add(text)
            for answer_type, finder in finders.items():
                found = set(finder.findall(text))
                if len(found) == 1 and (answer_type != "cuisine" or _EATING.search(text)):
                    asked = f'Someone says: "{text}" {_MENTIONS[answer_type]}'
                    yield Question("dialogue", asked, found.pop(), answer_type, held_out)


def trivia(folder: Path) -> Iterator[Question]:
    """OpenTriviaQA: four choices called one to four; the answer is the number of the right one."""
    for path in sorted((folder / "categories").iterdir()):
        for block in path.read_text(encoding="utf-8", errors="replace").split("#Q ")[1:]:
            lines = [typewritten(line) for line in block.splitlines() if line.strip()]
            asked = " ".join(line for line in lines if not re.match(r"(\^|[A-D]) ", line))
            right = [line[2:] for line in lines if line.startswith("^ ")]
            choices = [line[2:] for line in lines if re.match(r"[A-D] ", line)]
            if len(choices) != 4 or len(right) != 1 or choices.count(right[0]) != 1:
                continue
            listed = "; ".join(f"{o}: {c}" for o, c in zip(OPTIONS, choices, strict=True))
            answer = OPTIONS[choices.index(right[0])]
            yield Question("trivia", f"{asked} {listed}.", answer, "option", is_held_out(f"trivia {asked}"))


def yes_or_no(folder: Path) -> Iterator[Question]:
    """BoolQ without its passages; the set's own test part is the held-out part."""
    for part in ("train", "test"):
        for row in _read_rows(folder / f"{part}.json"):
            found = re.search(r"question: (.+?)\??\s*\n", row["instruction"])
            if found:
                asked = typewritten(found[1])
                answer = "yes" if row["answer"] == "true" else "no"
                yield Question("yes or no", f"{asked[0].upper()}{asked[1:]}?", answer, "yes or no", part == "test")


_CHOOSE = re.compile(r"(?:question|sentence): (.+?)\s*\n+((?:Answer|Solution|Option)1: .+?)\s*Answer format", re.DOTALL)
_LABEL = re.compile(r"\s*(?:Answer|Solution|Option)\d: ")
CHOICE_SETS = ("ARC-Easy", "ARC-Challenge", "openbookqa")  # that have a part to train on


@dataclass(frozen=True)
class Choice:
    """A question with options of which one is right."""

    question: str
    choices: tuple[str, ...]
    answer: int  # number of the right one

    @property
    def asked(self) -> str:
        """As lm-evaluation-harness asks; the answer is an option's own words."""
        return f"Question: {self.question}\nAnswer:"


def choices(path: Path) -> Iterator[Choice]:
    """Multiple choice in the form of LLM-Adapters: ARC, OpenBookQA, PIQA, WinoGrande."""
    for row in _read_rows(path):
        if found := _CHOOSE.search(row["instruction"]):
            options = tuple(option.strip() for option in _LABEL.split(found[2])[1:])
            yield Choice(found[1].strip(), options, int(row["answer"][-1]) - 1)


def chosen(folder: Path) -> Iterator[Question]:
    """ARC and OpenBookQA; their own test parts are the held-out part."""
    for name in CHOICE_SETS:
        for part in ("train", "test"):
            for one in choices(folder / name / f"{part}.json"):
                yield Question("choice", one.asked, one.choices[one.answer], "choice", part == "test")


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VoicegraftError(f"{path}: expected a JSON list of questions: {error}") from error


MADE_UP: dict[str, Callable[[random.Random], Question]] = {
    "reading": reading,
    "arithmetic": arithmetic,
    "words": words,
}


def make_up(kind: str, seed: int, count: int, held_out: bool) -> list[Question]:
    """Distinct made-up questions: of training facts, or of held-out ones ("reading": new names, too)."""
    draw = random.Random(f"{kind} {seed} {held_out}")
    found: dict[str, Question] = {}
    for _ in range(100 * count + 1000):  # small families (opposites) run dry: then fewer come back
        question = MADE_UP[kind](draw)
        if question.held_out == held_out and question.text not in found:
            found[question.text] = question
        if len(found) == count:
            break
    return list(found.values())


def take(questions: Iterable[Question], held_out: bool, count: int, seed: int) -> list[Question]:
    """A random choice of at most ``count`` of the questions of one part."""
    chosen = [q for q in questions if q.held_out == held_out]
    random.Random(seed).shuffle(chosen)
    return chosen[:count]


@dataclass(frozen=True)
class QuestionsConfig:
    reading: int = 25_000  # training questions of this kind, and so on
    dialogue: int = 9_000
    arithmetic: int = 16_000
    words: int = 12_000
    trivia: int = 5_000
    yes_or_no: int = 4_000
    choice: int = 0
    seed: int = 1


def training_questions(config: QuestionsConfig, corpora: Path) -> list[Question]:
    """All questions to train on, mixed; the public sets are read from ``corpora`` where some of theirs are asked for."""
    found = [q for kind in MADE_UP for q in make_up(kind, config.seed, getattr(config, kind), held_out=False)]
    for count, source in (
        (config.dialogue, dialogue_mentions(corpora / "sgd-dialogues" / "train.jsonl", held_out=False)),
        (config.trivia, trivia(corpora / "opentriviaqa")),
        (config.yes_or_no, yes_or_no(corpora / "llm-adapters-qa" / "boolq")),
        (config.choice, chosen(corpora / "llm-adapters-qa")),
    ):
        found += take(source, held_out=False, count=count, seed=config.seed) if count else []
    random.Random(config.seed).shuffle(found)
    return found
