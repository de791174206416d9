"""Conversations of several turns, in which speech and writing are mixed, as VoiceTextBlender shows them (arXiv 2410.17485).

Each is held anew with everything that may stand in the audio's place: its own earlier answers stand in its history.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from voicegraft.core.files import write_text
from voicegraft.core.ledger import Ledger, Row
from voicegraft.core.messages import Message
from voicegraft.data.splits import text_key
from voicegraft.evaluation.listening.answering import Answering, Place, Places
from voicegraft.evaluation.listening.behaviour import KEYS
from voicegraft.evaluation.listening.clips import Spoken
from voicegraft.evaluation.listening.items import Item, conversations, pieces, spoken
from voicegraft.evaluation.listening.report import transcripts

_TASK = "conversation"
_MAX_TOKENS = 32  # of an answer, which is to be read


def hold(
    names: Sequence[str], clips: Sequence[Spoken], places: Places, model: Answering, ledger: Ledger, batch: int = 16
) -> list[Row]:
    """Rows of all turns of the conversations that the clips can say, place by place; those of the ledger are not made again."""
    known = {text_key(clip.text): clip for clip in reversed(clips)}  # the first of several
    told = {
        name: turns
        for name, turns in conversations().items()
        if all(text_key(said) in known for turn in turns for said in pieces(turn.text)[1::2])
    }
    rows: list[Row] = []
    for place in names:
        asked: dict[str, list[Message]] = {name: [] for name in told}
        for number in range(1, max(map(len, told.values()), default=0) + 1):
            going = {name: turns[:number] for name, turns in told.items() if number <= len(turns)}
            keys = {name: _key(place, name, turns, known) for name, turns in going.items()}
            for name, turns in going.items():
                asked[name].append(_message(turns[-1], places.of(place), known))
            for group in _groups({name: asked[name] for name in going if keys[name] not in ledger.rows}, batch):
                answers = model.write([asked[name] for name in group], _MAX_TOKENS)
                for name, ids in zip(group, answers, strict=True):
                    row = dict(zip(KEYS, keys[name], strict=True))
                    ledger.add(row | _answered(going[name][-1], model.decode(ids)))
            for name in going:
                rows.append(ledger.rows[keys[name]])
                asked[name].append(Message.assistant(rows[-1]["answer"]))
    return rows


def write_conversations(folder: Path, clips: Sequence[Spoken], turns: Sequence[Row]) -> list[str]:
    """Writes what was said (conversations.md), and what none of the clips says (conversations.txt), and returns the latter."""
    if turns:
        write_text(folder / "conversations.md", transcripts(turns).markdown())
    known = {text_key(clip.text) for clip in clips}
    unsaid = [said for key, said in spoken().items() if key not in known]
    if unsaid:
        write_text(folder / "conversations.txt", "\n".join(unsaid) + "\n")
    return unsaid


def _key(place: str, name: str, turns: Sequence[Item], known: Mapping[str, Spoken]) -> tuple[str, str, str, str, str]:
    """An answer depends on all that was asked before it, and on the clips that said it."""
    clips = [known[text_key(said)] for turn in turns for said in pieces(turn.text)[1::2]]
    return place, name, " ".join(f"{c.corpus}/{c.id}" for c in clips), _TASK, "\n".join(turn.text for turn in turns)


def _message(turn: Item, place: Place, known: Mapping[str, Spoken]) -> Message:
    found = [
        part
        for number, piece in enumerate(pieces(turn.text))
        for part in (place(known[text_key(piece)]) if number % 2 else [piece] * bool(piece))
    ]
    return Message.user(*(found or [""]))


def _groups(asked: Mapping[str, Sequence[Message]], batch: int) -> Iterator[list[str]]:
    """Names of conversations that are answered together: all with audio, or none."""
    for audio in (False, True):
        group = [name for name, messages in asked.items() if any(one.waveforms for one in messages) == audio]
        yield from (group[at : at + batch] for at in range(0, len(group), batch))


def _answered(turn: Item, answer: str) -> Row:
    parts = pieces(turn.text)
    message = "spoken" if not "".join(parts[::2]).strip() else "mixed" if len(parts) > 1 else "written"
    right = turn.is_right(answer) if turn.answers else None
    return {"asked": turn.text, "message": message, "answer": answer, "right": right}
