"""Conversations are held in every way by the same code: who hears all is at the ceiling, who hears nothing is never right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from voicegraft.core.ledger import Ledger
from voicegraft.core.messages import Message, Waveform
from voicegraft.data.splits import text_key
from voicegraft.evaluation.listening.answering import BESIDE, CASCADE, NOTHING, PURE, TEXT, Places
from voicegraft.evaluation.listening.behaviour import KEYS
from voicegraft.evaluation.listening.clips import RATE, Spoken
from voicegraft.evaluation.listening.conversations import hold, write_conversations
from voicegraft.evaluation.listening.items import conversations, pieces, spoken
from voicegraft.evaluation.speech.reserved import ReservedTexts

WAYS = (TEXT, CASCADE, NOTHING, PURE, BESIDE)
SAID = dict(enumerate(spoken().values(), 1))
CLIPS = [Spoken("said", str(n), text, Waveform(np.zeros(n, np.float32), RATE)) for n, text in SAID.items()]
PLACES = Places(lambda clip: clip.text.upper(), {})


class Echo:
    """Answers with all that the user has said so far; knows each clip by its length."""

    def __init__(self, most: int = 1000) -> None:
        self.asked: list[list[Message]] = []
        self.most = most  # conversations, after which the run is killed

    def write(self, asked: Sequence[Sequence[Message]], max_tokens: int) -> list[list[int]]:
        assert len({any(one.waveforms for one in messages) for messages in asked}) == 1
        if len(self.asked) > self.most:
            raise KeyboardInterrupt
        self.asked += map(list, asked)
        return [[ord(char) for char in echo(messages)] for messages in asked]

    def decode(self, said: Sequence[int]) -> str:
        return "".join(map(chr, said))

    def log_probs(self, messages: Sequence[Message], said: Sequence[int]) -> Tensor:
        raise NotImplementedError


def echo(messages: Sequence[Message]) -> str:
    parts = [part for message in messages if message.role == "user" for part in message.parts]
    return "".join(part if isinstance(part, str) else SAID[len(part.samples)] for part in parts)


def ledger(folder: Path) -> Ledger:
    return Ledger(folder / "rows.jsonl", {}, KEYS)


def test_speech_and_writing_are_mixed_and_no_answer_stands_in_writing() -> None:
    held, reserved = conversations(), ReservedTexts()
    assert len(held) == 30 and {len(turns) for turns in held.values()} == {2, 3, 4}
    assert sum(bool(turn.answers) for turns in held.values() for turn in turns) >= 40
    assert any(len(pieces(turn.text)) > 3 for turns in held.values() for turn in turns)  # two audios in one message
    assert all(said in reserved for said in SAID.values())
    for turns in held.values():
        for number, turn in enumerate(turns, 1):
            before = "".join(one.text for one in turns[:number])
            assert not turn.answers or "<" in before, turn


def test_each_way_has_its_own_history_and_the_floor_knows_nothing(tmp_path: Path) -> None:
    model = Echo()
    rows = hold(WAYS, CLIPS, PLACES, model, ledger(tmp_path), batch=7)
    assert len(rows) == len(model.asked) == 5 * sum(map(len, conversations().values()))
    for messages in model.asked:
        for at in range(1, len(messages), 2):
            assert messages[at] == Message.assistant(echo(messages[:at]))
    of = {way: {(row["id"], row["wording"]): row for row in rows if row["who"] == way} for way in WAYS}
    for key, row in of[TEXT].items():
        floor, pure = of[NOTHING][key], of[PURE][key]
        assert (pure["answer"], pure["right"]) == (row["answer"], row["right"])
        assert not floor["right"] and (floor["right"] is None) == (row["right"] is None)
        assert text_key(of[CASCADE][key]["answer"]) == text_key(row["answer"])
        assert row["message"] in ("spoken", "written", "mixed")
    assert any(row["right"] for row in of[TEXT].values())


@pytest.mark.parametrize("most", [3, 100])
def test_a_run_that_was_killed_goes_on(tmp_path: Path, most: int) -> None:
    whole = hold(WAYS, CLIPS, PLACES, Echo(), ledger(tmp_path / "whole"))
    killed, after = Echo(most), Echo()
    with pytest.raises(KeyboardInterrupt):
        hold(WAYS, CLIPS, PLACES, killed, ledger(tmp_path))
    assert hold(WAYS, CLIPS, PLACES, after, ledger(tmp_path)) == whole
    assert len(killed.asked) + len(after.asked) == len(whole) and killed.asked


def test_what_no_clip_says_is_left_out_and_told(tmp_path: Path) -> None:
    without = [clip for clip in CLIPS if clip.text != "And to smell?"]
    rows = hold((TEXT,), without, PLACES, Echo(), ledger(tmp_path))
    assert len({row["corpus"] for row in rows}) == 29
    assert write_conversations(tmp_path, without, rows) == ["And to smell?"]
    assert (tmp_path / "conversations.txt").read_text() == "And to smell?\n"
    told = (tmp_path / "conversations.md").read_text()
    assert told.count("\n## ") == 29 and "| *And of Poland?* |" in told
    assert not hold((TEXT,), [], PLACES, Echo(), ledger(tmp_path)) and len(write_conversations(tmp_path, [], [])) == 55
