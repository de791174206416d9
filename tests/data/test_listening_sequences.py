"""Training sequences of what hears: speech and text in turns lose nothing; a row stands as inference would write it."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests import tiny
from voicegraft.core.messages import Message, Waveform
from voicegraft.data.chat import AUDIO, chat_prompt, encode
from voicegraft.data.listening_sequences import Cut, Interleaving, Portion, interleaved
from voicegraft.data.manifest import Utterance
from voicegraft.data.prepared import Clip
from voicegraft.data.responses import Response, Tokens
from voicegraft.data.splits import text_key

TEXT = "We see the owl now."
TOKENIZER = tiny.byte_tokenizer()
CLIP = Clip(Path("ann"), 0, Utterance("a", "", TEXT, "ann", "train", 2.0))
IDS = encode(TOKENIZER, TEXT)
SAID = np.asarray([(token, 4 * i, 4 * i + 4) for i, token in enumerate(IDS)])  # 4 frames a letter
PIECES = TOKENIZER.convert_ids_to_tokens(IDS)
HI = Tokens(np.asarray([*encode(TOKENIZER, "Hi."), 1], dtype=np.int32))


def whole(ids: list[int], cuts: tuple[Cut, ...]) -> list[int]:
    """The text again, each stretch of speech read by its frames."""
    left, said = iter(cuts), []
    for token in ids:
        if token == AUDIO:
            cut = next(left)
            said += [token for token, begin, _ in SAID.tolist() if cut.begin <= begin < (cut.end or 1000)]
        else:
            said.append(token)
    assert next(left, None) is None
    return said


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_speech_and_text_together_are_the_clip(share: float) -> None:
    words, as_text = 0, 0
    for seed in range(50):
        draw = np.random.default_rng(seed)
        ids, cuts = interleaved(CLIP, SAID, PIECES, share, 2, draw)
        assert whole(ids, cuts) == IDS and len(cuts) == ids.count(AUDIO) >= 1
        assert not any(a == b == AUDIO for a, b in pairwise(ids)), "stretches side by side are one"
        as_text += sum(i != AUDIO for i in ids)
        words += len(IDS)
    assert (as_text / words == 0) if share == 0 else abs(as_text / words - min(share, 0.8)) < 0.12


def test_a_word_without_frames_stands_as_text() -> None:
    squeezed = SAID * [1, 0, 0]
    for seed in range(20):
        ids, cuts = interleaved(CLIP, squeezed, PIECES, 0.5, 1, np.random.default_rng(seed))
        assert all(cut.end is None for cut in cuts) and len(cuts) == ids.count(AUDIO) == 1


def test_the_share_of_text_moves_on_a_line() -> None:
    words = Interleaving(1.0, text=0.8, final_text=0.2)
    assert [words.text_at(at) for at in (0.0, 0.5, 1.0)] == pytest.approx([0.8, 0.5, 0.2])


def portion(wording: str, **options: object) -> Portion:
    row = Response("topic", wording, TEXT.upper(), "Hi.", history=(("user", "Hello."), ("assistant", "Yes.")))
    return Portion([(row, HI)], {text_key(TEXT): [CLIP]}, TOKENIZER, 100, 50.0, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("transcript", [None, "We sea.", ""])
def test_a_row_stands_as_a_listener_would_write_it(transcript: str | None) -> None:
    transcript_of = None if transcript is None else {CLIP: transcript}.__getitem__
    made = portion("Topic?\n{audio}\nBriefly.", transcript_of=transcript_of)
    sequence = made.sequence(0, np.random.default_rng(0), Interleaving(), 0.0, None)
    sound = Waveform(np.zeros(9, dtype=np.float32), 16_000)
    beside = [f"\n{transcript}"] if transcript else []
    asked = Message.user("Topic?\n", sound, *beside, "\nBriefly.")
    prompt = chat_prompt(TOKENIZER, [Message.user("Hello."), Message.assistant("Yes."), asked])
    assert sequence.item.ids == [*prompt, *HI.ids.tolist()] and sequence.item.num_prompt == len(prompt)
    assert sequence.cuts == (Cut(CLIP),) and sequence.tokens is HI


def test_an_interleaved_row_keeps_what_is_around() -> None:
    made = portion("Topic?\n{audio}\nBriefly.")
    plain = made.sequence(0, np.random.default_rng(0), Interleaving(), 0.0, None).item
    mixed = made.sequence(0, np.random.default_rng(1), Interleaving(1.0, 0.5, 0.5, 1), 0.0, lambda clip: SAID)
    place = plain.ids.index(AUDIO)
    length = len(mixed.item) - len(plain) + 1
    assert mixed.item.ids[:place] == plain.ids[:place] and length > 1
    assert whole(mixed.item.ids[place : place + length], mixed.cuts) == IDS
    assert mixed.item.ids[place + length :] == plain.ids[place + 1 :]
    assert len(mixed.item) - mixed.item.num_prompt == len(HI.ids)


def test_rows_that_nobody_says_are_left_out() -> None:
    assert len(portion("{audio}")) == 1
    row = Response("topic", "{audio}", "Something else.", "Hi.")
    assert len(Portion([(row, HI)], {text_key(TEXT): [CLIP]}, TOKENIZER, 100, 50.0)) == 0
    text = Response("chat", "Where?", "", "Hi.")
    made = Portion([(text, HI)], {}, TOKENIZER, 100, 50.0)
    sequence = made.sequence(0, np.random.default_rng(0), Interleaving(1.0), 0.0, lambda clip: SAID)
    assert AUDIO not in sequence.item.ids and not sequence.cuts
