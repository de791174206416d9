"""`recipe mix_modalities`: a span of a written prompt is to be spoken, and nothing of prompt and answer is lost."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from voicegraft.core.errors import VoicegraftError
from voicegraft.data.listening_tasks import HEARD
from voicegraft.data.responses import Response, read_responses
from voicegraft.recipes.mix_modalities import MixModalitiesConfig, mix_modalities, spoken_variants

PROMPT = "I have two owls. They are white. Where do they sleep? Please tell me."
TURNS = (("user", "Hello."), ("assistant", "Good day."), ("user", "Do owls see?"), ("assistant", "Yes."))
CHATS = [
    {"prompt": PROMPT, "answer": "In a house."},
    {"messages": [{"role": role, "content": text} for role, text in TURNS]},
    {"prompt": "What is two and two?", "answer": "Four.", "category": "Math"},
    {"prompt": "Say it. " * 60, "answer": "It."},
    {"prompt": "The birch canoe slid on the smooth planks. Why?", "answer": "It was wet."},
    {"prompt": "", "answer": "It."},
]


def test_a_variant_is_the_prompt_with_a_span_of_it_spoken() -> None:
    chat = Response("chat", PROMPT, "", "In a house.")
    seen = set()
    for seed in range(60):
        variants = spoken_variants(chat, 2, random.Random(seed))
        assert 1 <= len(variants) <= 2
        for row in variants:
            assert row.wording.replace(HEARD, row.text).replace("\n", " ") == PROMPT and row.text
            assert row.reply == "In a house." and row.task == "mixed"
            seen.add(row.text)
    assert len(seen) == 10, "every span of four sentences"
    assert not spoken_variants(replace(chat, wording="?!"), 2, random.Random(0))


def test_chats_become_rows_and_what_cannot_be_spoken_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, CHATS)))
    config = MixModalitiesConfig(tmp_path / "chats.jsonl", tmp_path / "out", licence="CC0")
    mix_modalities(config)
    rows = [row for row, _ in read_responses(tmp_path / "out")]
    assert {row.wording for row in rows if row.task == "chat"} == {PROMPT, "Do owls see?"}
    (turn,) = {row.history for row in rows if "Do owls see?" in (row.text, row.wording)}
    assert turn == TURNS[:2]
    assert {row.licence for row in rows} == {"CC0"} and {row.origin for row in rows} == {
        "chats.jsonl:1",
        "chats.jsonl:2",
    }
    spans = (tmp_path / "out" / "spans.txt").read_text().splitlines()
    assert {*spans} == {row.text for row in rows if row.task == "mixed"}
    told = capsys.readouterr().out
    assert all(reason in told for reason in ("category: 1", "too long: 1", "reserved: 1", "empty: 1"))


def test_a_line_that_is_no_chat_is_told_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "chats.jsonl").write_text(
        '{"prompt": "Where?", "answer": "Here."}\n{"messages": [{"role": "user", "content": "?"}]}\n'
    )
    with pytest.raises(VoicegraftError, match=r"chats.jsonl:2: expected an object"):
        mix_modalities(MixModalitiesConfig(tmp_path / "chats.jsonl", tmp_path / "out"))
