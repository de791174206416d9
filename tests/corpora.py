"""Made-up corpora in the public ones' file formats."""

import json
import random
from pathlib import Path

from voicegraft.data import questions as qa

FORBIDDEN = "The green lamp stood near the old gate."


def write_corpora(data: Path) -> None:
    draw = random.Random(0)
    words = [
        "the",
        "river",
        "ran",
        "past",
        "a",
        "small",
        "house",
        "and",
        "Tom",
        "saw",
        "his",
        "sister",
        "at",
        "the",
        "door",
        "with",
        "seven",
        "red",
        "apples",
    ]
    books = data / "books-pd"
    books.mkdir(parents=True)
    for book in ("One_1", "Two_2"):
        lines = [" ".join(draw.choices(words, k=40)).capitalize() + "." for _ in range(1500)]
        lines[3] += f" {FORBIDDEN} “Yes,” said Tom."
        (books / f"{book}.txt").write_text("\n\n".join(lines))
    spoken = data / "sgd-dialogues"
    spoken.mkdir()
    for part in ("train", "dev"):
        rows = []
        for i in range(150):
            said = f"{part} {i} I want to eat in {draw.choice(qa.CITIES)} with you.".translate(
                {48 + n: None for n in range(10)}
            )
            turns = [
                ("user", said),
                ("system", f"On {draw.choice(qa.DAYS)}, you and {draw.choice(qa.NAMES)}?"),
            ]
            rows.append({"id": str(i), "turns": [{"speaker": s, "text": t} for s, t in turns]})
        (spoken / f"{part}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    trivia = data / "opentriviaqa" / "categories"
    trivia.mkdir(parents=True)
    blocks = [f"#Q What is thing {i}?\n^ b{i}\nA a{i}\nB b{i}\nC c{i}\nD d{i}\n" for i in range(60)]
    (trivia / "things").write_text("\n".join([*blocks, "#Q Broken?\n^ x\nA y\nB z\n"]))
    boolq = data / "llm-adapters-qa" / "boolq"
    boolq.mkdir(parents=True)
    for part in ("train", "test"):
        asked = [(f"is {part} thing {i} a thing", i % 3 == 0) for i in range(30)]
        rows = [{"instruction": f"Please answer, question: {q}?\n\nAnswer", "answer": str(a).lower()} for q, a in asked]
        (boolq / f"{part}.json").write_text(json.dumps(rows))
    (data / "prompts.txt").write_text(FORBIDDEN + "\n\n")
