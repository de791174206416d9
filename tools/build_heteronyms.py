"""Trains the choice between the pronunciations of heteronyms that the package ships. Only a maintainer runs this:

    git clone https://github.com/google-research-datasets/WikipediaHomographData
    git clone https://github.com/UniversalDependencies/UD_English-EWT
    python -m tools.build_heteronyms WikipediaHomographData UD_English-EWT/en_ewt-ud-{dev,test}.conllu

It takes a minute, says how often the choice is right on the sentences that were held back, and replaces data/heteronyms.npz.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from voicegraft.text.english.heteronyms import (
    NUM_WEIGHTS,
    WEIGHTS_FILE,
    around,
    features,
    features_of,
    heteronyms,
)
from voicegraft.text.units import words_of

EXAMPLES = Path(__file__).parent / "heteronyms.txt"  # our own, for words and readings that the data have few of
MARKED = re.compile(r"\[(\w+):(\w+)\]")
# What the data call readings, where it is not that the second is the verb; None: a word or reading that is not listed.
_SECOND = {
    "aged": "aged_adj", "august": "august_adj", "axes": "axes_nou-vrb", "bass": "bass_corp", "blessed": "blessed_adj",
    "bow": "bow_nou-ship", "celtic": "celtic_adj-nou-sports", "compress": "compress", "content": "content_adj-nou-vrb",
    "correlate": "correlate_nou-vrb", "invalid": "invalid_nou", "isolate": "isolate", "job": "job_bible",
    "lead": "lead_nou", "learned": "learned_adj", "minute": "minute_adj", "mobile": "mobile_geo", "moped": "moped_nou",
    "nestle": "nestle_nam", "polish": "polish_geo", "reading": "reading_geo", "read": "read_present",
    "sake": "sake_jp", "sow": "sow", "buffet": "buffet_vrb",
}  # fmt: skip
_LEFT_OUT = ("august_nam", "mobile_nou-art")
# Penn Treebank tags of the first and of the second reading, by group.
_TAGS = {
    "verb": (("NN", "JJ"), ("VB", "VBP")),
    "verb in -s": (("NNS",), ("VBZ",)),
    "present": (("VBD", "VBN"), ("VB", "VBP")),
}
_TREEBANK_WEIGHT = 0.2  # of a word of other spelling, where one that is asked for counts 1
_OWN_WEIGHT = 3.0  # of a sentence of ours
_PENALTY = 0.5


@dataclass(frozen=True)
class Example:
    """Where the weights are that count, whether the second reading is right, and how much that counts."""

    word: str
    places: list[int]
    second: bool
    weight: float = 1.0


def marked(lines: Iterable[str], weight: float = 1.0) -> Iterator[Example]:
    """Examples of sentences such as ``I [read:past] it.``, and of words that tell a reading wherever they stand near,
    such as ``~ bass fish: lake pond``. Lines that begin with # are left out.

    Raises:
        KeyError: a word that is no heteronym.
    """
    for line in lines:
        if line.startswith("#"):
            continue
        if line.startswith("~"):
            (word, reading), near = line[1:].split(":")[0].split(), line.split(":")[1].split()
            second = bool(heteronyms()[word].readings.index(reading))
            yield from (Example(word, features_of(f"={word}", [f"near {other}"]), second, weight) for other in near)
            continue
        words = words_of(MARKED.sub(r"\1", line))
        for match in MARKED.finditer(line):
            number = len(words_of(MARKED.sub(r"\1", line[: match.start()])))
            word, reading = match.groups()
            readings = heteronyms()[word.lower()].readings
            yield Example(word.lower(), list(features(words, number)), bool(readings.index(reading)), weight)


def homograph_data(folder: Path, split: str) -> Iterator[Example]:
    """Examples of the Wikipedia Homograph Data (Gorman et al. 2018): "train" or "eval"."""
    for path in sorted((folder / "data" / split).glob("*.tsv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                word, reading = row["homograph"].lower(), row["wordid"]
                if word not in heteronyms() or reading in _LEFT_OUT:
                    continue
                second = reading == _SECOND[word] if word in _SECOND else reading.endswith("_vrb")
                sentence = row["sentence"].encode()
                before, said = (_letters(part.decode()) for part in (sentence[: int(row["start"])], sentence))
                words, number = words_of(said), len(words_of(before))
                if number < len(words) and words[number].key == word:
                    yield Example(word, list(features(words, number)), second)


def treebank(path: Path) -> Iterator[Example]:
    """Nouns, adjectives and verbs of other spellings (CoNLL-U), for the weights that groups share."""
    for sentence in path.read_text(encoding="utf-8").split("\n\n"):
        rows = [line.split("\t") for line in sentence.splitlines() if line[:1].isdigit()]
        rows = [row for row in rows if row[0].isdigit()]
        places: dict[int, str] = {}
        text = ""
        for _, form, _, coarse, tag, *_ in rows:
            if not form.startswith(("'", "n't")) and coarse != "PUNCT":
                text += " "
            if coarse in ("NOUN", "ADJ", "VERB"):
                places[len(words_of(_letters(text)))] = tag
            text += form
        words = words_of(_letters(text))
        for number, tag in places.items():
            for group, tags in _TAGS.items():
                for second in (False, True):
                    if tag in tags[second] and number < len(words):
                        yield Example(group, features_of(group, around(words, number)), second, _TREEBANK_WEIGHT)


def _letters(text: str) -> str:
    """Roughly the spoken form."""
    return re.sub(r"\d[\d.,]*", "five", text)


def train(examples: list[Example], penalty: float = _PENALTY) -> np.ndarray:
    """Weights of a logistic regression."""
    columns = np.concatenate([example.places for example in examples])
    ends = np.cumsum([0, *(len(example.places) for example in examples)])
    x = csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(examples), NUM_WEIGHTS))
    sign = np.array([1.0 if example.second else -1.0 for example in examples])
    count = np.array([example.weight for example in examples])

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (x @ weights)
        slope = -count * sign / (1 + np.exp(margin))
        value = (count * np.logaddexp(0, -margin)).sum() + penalty / 2 * weights @ weights
        return float(value), x.T @ slope + penalty * weights

    found = minimize(loss, np.zeros(NUM_WEIGHTS), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return np.asarray(found.x)


def right(examples: Iterable[Example], weights: np.ndarray) -> dict[str, list[bool]]:
    """By word, whether each choice is right."""
    by_word: dict[str, list[bool]] = defaultdict(list)
    for example in examples:
        by_word[example.word].append((weights[example.places].sum() > 0) == example.second)
    return by_word


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the Wikipedia Homograph Data")
    parser.add_argument("treebank", type=Path, nargs="*", help="CoNLL-U files with Penn Treebank tags")
    parser.add_argument("--out", type=Path, default=WEIGHTS_FILE)
    options = parser.parse_args(argv)
    examples = list(homograph_data(options.data, "train"))
    for path in options.treebank:
        examples += treebank(path)
    examples += marked(EXAMPLES.read_text(encoding="utf-8").splitlines(), _OWN_WEIGHT)
    weights = train(examples)
    scale = np.float32(np.abs(weights).max() / 127)
    small = np.round(weights / scale).astype(np.int8)
    held = right(homograph_data(options.data, "eval"), small * scale)
    groups: dict[str, Counter[bool]] = defaultdict(Counter)
    for word, answers in held.items():
        groups[heteronyms()[word].group].update(answers)
        groups["all"].update(answers)
    for group, counts in groups.items():
        print(f"{group:12} {counts[True]} of {counts.total()} right ({counts[True] / counts.total():.1%})")
    np.savez_compressed(options.out, weights=small, scale=scale)
    print(f"{options.out}: {options.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
