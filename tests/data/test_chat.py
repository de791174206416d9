"""Audio in a conversation: where it stands, and that the text around it is what the template writes."""

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from tests import tiny
from tests.export.test_gguf_file import merging_tokenizer
from tests.inference.test_writer import CHATML, DEAF, LLAMA2, sentencepiece
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Message, Waveform
from voicegraft.data.chat import AUDIO, answered_questions, chat_prompt, collate_answers, encode, widened

CLIP = Waveform(np.zeros(8, np.float32), 8000)
TRIMMING = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}</s>{% endfor %}{% if add_generation_prompt %}[assistant]"
    "{% endif %}"
)
NULL = AddedToken("<null>", special=True, normalized=False)
CONVERSATIONS: list[list[Message]] = [
    [Message.user(CLIP)],
    [Message.user("What is said? ", CLIP)],
    [Message.user("Here", CLIP, CLIP, "is what they said,", CLIP, " or so. Why?")],
    [Message.system("Be kind."), Message.user(CLIP, "Who?"), Message.assistant("Me."), Message.user("And ", CLIP, "?")],
    [Message.user("See [audio-0] and [audio-1]: ", CLIP)],
]


def with_special(tokenizer: PreTrainedTokenizerFast, template: str | None) -> PreTrainedTokenizerFast:
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = template
    return tokenizer


TOKENIZERS = {"bytes": tiny.byte_tokenizer, "merges": merging_tokenizer, "sentencepiece": sentencepiece}


@pytest.mark.parametrize("template", [None, CHATML, LLAMA2, TRIMMING], ids=["bare", "chatml", "llama2", "trimming"])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_audio_stands_where_a_token_of_its_own_would(kind: str, template: str | None) -> None:
    """The truth: transformers' own treatment of a special token, as the processors of audio models add one."""
    tokenizer = with_special(TOKENIZERS[kind](), template)
    other = copy.deepcopy(tokenizer)
    other.add_special_tokens({"additional_special_tokens": [NULL]})
    (null,) = encode(other, "<null>")
    for messages in CONVERSATIONS:
        found = chat_prompt(tokenizer, messages)
        written = [Message(m.role, (m.marked("<null>"),)) for m in messages]
        assert found == [AUDIO if i == null else i for i in chat_prompt(other, written)]
        assert found.count(AUDIO) == sum(len(m.waveforms) for m in messages)


def test_a_template_that_drops_audio_is_told() -> None:
    last = "{% for m in messages[-1:] %}{{ m.content }}{% endfor %}"
    said = [Message.user(CLIP), Message.assistant("Me."), Message.user("Why?", CLIP)]
    with pytest.raises(VoicegraftError, match="has 1 places for the 2 pieces of audio in this conversation"):
        chat_prompt(with_special(tiny.byte_tokenizer(), last), said)


@pytest.mark.parametrize("template", [None, CHATML, DEAF])
@pytest.mark.parametrize("role", ["system", "assistant"])
def test_only_users_speak(role: str, template: str | None) -> None:
    said = [Message(role, ("It is", CLIP)), Message.user("Why?")]  # type: ignore[arg-type]
    with pytest.raises(VoicegraftError, match=f"audio in the user's messages alone, got some in the {role}'s"):
        chat_prompt(with_special(tiny.byte_tokenizer(), template), said)


def learnt(ids: Sequence[int], answer: torch.Tensor) -> list[int]:
    return [i for i, wanted in zip(ids, answer.tolist(), strict=True) if wanted]


@pytest.mark.parametrize("template", [None, CHATML])
def test_training_sequences_are_prompts_with_their_answers(template: str | None) -> None:
    tokenizer = with_special(tiny.byte_tokenizer(), template)
    asked = [Message.user(CLIP, "Who?"), Message.assistant("Me."), Message.user("And ", CLIP, "?")]
    items = answered_questions(tokenizer, [(asked, "You."), ("Why?", "So."), (Message.user(CLIP), "Yes.")])
    wide = [item.widened(lengths) for item, lengths in zip(items, [(3, 0), (), (2,)], strict=True)]
    assert items[0].ids[: items[0].num_prompt] == chat_prompt(tokenizer, asked)
    assert wide[0].ids[: wide[0].num_prompt] == widened(chat_prompt(tokenizer, asked), (3, 0))
    batch = collate_answers(wide, 1, torch.device("cpu"))
    assert (batch["input_ids"] == AUDIO).sum(1).tolist() == [3, 0, 2]
    assert not batch["answer"][batch["input_ids"] == AUDIO].any()
    for row, text in zip(range(3), ("You.", "So.", "Yes."), strict=True):
        *said, end = learnt(batch["input_ids"][row].tolist(), batch["answer"][row])
        assert tokenizer.decode(said).strip() == text and end == items[row].ids[-1]


def test_as_many_lengths_as_pieces_of_audio() -> None:
    assert widened([5, AUDIO, AUDIO, 6], [2, 1]) == [5, AUDIO, AUDIO, AUDIO, 6]
    with pytest.raises(ValueError, match="lengths of 1 pieces of audio, got 2"):
        widened([AUDIO], [2, 1])
