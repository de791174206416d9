"""What is written is what the backbone alone would write, in pieces that are never taken back."""

import copy
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests import tiny
from tests.dictation import dictated
from tests.fusion.test_router import routed
from tests.fusion.test_speech_lm import FAMILIES, random_backbone
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Message, Waveform
from voicegraft.data.chat import chat_prompt, encode
from voicegraft.fusion.router import RouterSettings
from voicegraft.fusion.speech_lm import SpeechLM
from voicegraft.inference.sampling import Sampling
from voicegraft.inference.writer import Writer, WritingOptions, decoded

QUESTION = "Is it you?"
SHORT = WritingOptions(max_tokens=20)
TEMPLATE = """\
{% for m in messages %}\
{% if not loop.first and m['role'] == loop.previtem['role'] %}{{ raise_exception('twice the same') }}{% endif %}\
[{{ m['role'] }}]{{ m['content'] }}\
{% endfor %}[assistant]"""


@pytest.fixture(scope="module")
def lm() -> SpeechLM:
    return tiny.fused()


def with_template(lm: SpeechLM) -> SpeechLM:
    lm = copy.deepcopy(lm)
    lm.tokenizer.chat_template = TEMPLATE
    return lm


# Tokens


@torch.inference_mode()
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_writing_is_what_the_untouched_backbone_generates(family: str) -> None:
    untouched = random_backbone(family)
    lm = with_template(tiny.speech_lm(copy.deepcopy(untouched)))
    writer = Writer(lm)
    for question in ("Hello?", "What is it, and why is it here?"):
        ids = torch.tensor([chat_prompt(lm.tokenizer, [Message.user(question)])])
        expected = untouched.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24, eos_token_id=[*writer.stops]
        )[0, ids.shape[1] :].tolist()
        writing = writer.start(question, WritingOptions(max_tokens=24))
        text = "".join(writing)
        ended = expected[-1] in writer.stops
        assert writing.report.ids == expected[: len(expected) - ended] and len(expected) > 1
        assert writing.report.cut == (not ended) and writing.report.num_prompt == ids.shape[1]
        assert text == writing.text == lm.tokenizer.decode(writing.report.ids, True).rstrip("\ufffd").strip()


@torch.inference_mode()
@pytest.mark.parametrize("kind", [RouterSettings("token", hardness="soft"), RouterSettings("segment", hardness="soft")])
def test_a_router_sees_one_text_however_it_is_cached(kind: RouterSettings) -> None:
    lm = routed(kind, with_template(tiny.fused()))
    ids = prompt = chat_prompt(lm.tokenizer, [Message.user(QUESTION)])
    segment = torch.zeros(1, 12 + len(prompt), dtype=torch.bool)
    segment[:, : len(prompt)] = True
    for _ in range(12):
        router = lm.router.start(segment[:, : len(ids)])  # type: ignore[union-attr]
        with lm.mole.gated(router):
            ids = [*ids, int(lm.backbone(input_ids=torch.tensor([ids])).logits[0, -1].argmax())]
    writer = Writer(lm)
    writer.stops = frozenset([-1])
    writing = writer.start(QUESTION, WritingOptions(max_tokens=12))
    list(writing)
    assert writing.report.ids == ids[len(prompt) :]


def test_streams_that_take_turns_do_not_see_each_others_gates(lm: SpeechLM) -> None:
    """Between two pieces of a text another one is written, and something is said."""
    speaking = copy.deepcopy(lm)
    speaking.fixed = "speech"  # writes with the speech expert: the gates then matter
    alone = list(Writer(speaking).start(QUESTION, SHORT))
    assert alone != list(Writer(lm).start(QUESTION, SHORT))
    ids = torch.tensor([encode(lm.tokenizer, QUESTION)])
    bare = tiny.llama()(input_ids=ids).logits
    one, other, taken = (Writer(speaking).start(q, SHORT) for q in (QUESTION, "Other?", QUESTION))
    pieces = []
    for piece in one:
        pieces.append(piece)
        with torch.inference_mode(), speaking.mole.gated(None):
            assert torch.equal(speaking.backbone(input_ids=ids).logits, bare)
        with torch.inference_mode():
            assert torch.equal(speaking.backbone(input_ids=ids).logits, bare)  # no gates are left behind
            speaking.hidden(speaking.embed_text(ids))
        next(other, None)
    assert pieces == alone == list(taken)
    assert not torch.is_inference_mode_enabled()


def test_sampled_writing_follows_its_seed(lm: SpeechLM) -> None:
    writer, options = Writer(lm), WritingOptions(30, Sampling(1.0, 1.0))
    one, same, other = ("".join(writer.start(QUESTION, options, seed)) for seed in (1, 1, 2))
    assert one == same != other
    greedy = ["".join(writer.start(QUESTION, SHORT, seed)) for seed in (1, 2)]
    assert greedy[0] == greedy[1]


# Ends


def test_an_answer_ends_with_the_end_token_or_with_the_bound(lm: SpeechLM) -> None:
    writer = Writer(lm)
    with dictated(lm, "It is me."):
        whole = writer.start(QUESTION)
        assert "".join(whole) == "It is me." and not whole.report.cut and whole.report.warnings == []
    with dictated(lm, "It is me."):
        cut = writer.start(QUESTION, WritingOptions(max_tokens=5))
        assert "".join(cut) == "It is" and cut.report.cut
        assert cut.report.warnings == ["the answer was cut after 5 tokens; allow more with max_tokens"]
    with dictated(lm, "  "):
        empty = writer.start(QUESTION)
        assert list(empty) == [] and empty.report.warnings == ["the answer is empty"]


def test_every_end_of_the_backbone_ends_an_answer(lm: SpeechLM) -> None:
    lm = with_template(lm)
    full_stop = encode(lm.tokenizer, ".")[0]
    for ends in (full_stop, [1, full_stop]):
        lm.backbone.generation_config.eos_token_id = ends
        with dictated(lm, "Me. You."):
            assert "".join(Writer(lm).start(QUESTION)) == "Me"


def test_a_base_model_answers_in_one_line(lm: SpeechLM) -> None:
    with dictated(lm, " It is me.\nQuestion: who else?"):
        assert "".join(Writer(lm).start(QUESTION)) == "It is me."
    taught = with_template(lm)
    with dictated(taught, "One.\nTwo."):
        assert "".join(Writer(taught).start(QUESTION)) == "One.\nTwo."


def test_a_line_break_inside_a_token_ends_a_base_models_answer(lm: SpeechLM) -> None:
    """Many tokenizers have a token for a stop and a line break."""
    tokenizer = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "me": 2, ".\n": 3, "you": 4, "\n": 5}, "</s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    tokenizer.decoder = decoders.Fuse()
    twin = copy.copy(lm)
    twin.tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    left = [2, 3, 4]
    handle = lm.backbone.get_output_embeddings().register_forward_hook(
        lambda module, args, logits: torch.zeros_like(logits).index_fill_(-1, torch.tensor(left.pop(0)), 50.0)
    )
    try:
        assert "".join(Writer(twin).start("me")) == "me." and left == [4]
    finally:
        handle.remove()


# Text


TEXTS = ("Café, naïve œuvre.", "日本語 text 한국어", "🦉🏳️‍🌈 owls 🇫🇷", "don't  n't . , !", "a\n\n b")


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_hold_whole_characters_and_add_up(text: str) -> None:
    tokenizer = tiny.byte_tokenizer()
    pieces = list(decoded(tokenizer, encode(tokenizer, text)))
    assert "".join(pieces) == text and "\ufffd" not in text
    assert [c for piece in pieces for c in piece] == list(text)


def sentencepiece() -> PreTrainedTokenizerFast:
    """As Llama 2's: a space is part of the word after it, unknown characters are bytes, the first space is dropped."""
    words = ["<s>", "</s>", "<unk>", *(f"<0x{i:02X}>" for i in range(256)), *"▁abcdefgnotwl"]
    bpe = Tokenizer(
        models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=[], unk_token="<unk>", byte_fallback=True)
    )
    bpe.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first")
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.mark.parametrize("text", ["a cat on top", "owl 🦉 and né 日本語é a", "not 🦉🦉 ééé"])
def test_pieces_of_sentencepiece_add_up_too(text: str) -> None:
    tokenizer = sentencepiece()
    ids = encode(tokenizer, text)
    assert tokenizer.decode(ids) == text
    pieces = list(decoded(tokenizer, ids))
    assert "".join(pieces) == text and not any("\ufffd" in piece for piece in pieces)
    # Special tokens are no text, wherever they stand.
    assert "".join(decoded(tokenizer, [0, *ids[:2], 0, *ids[2:], 1])) == text


def test_what_is_no_text_does_not_stop_the_pieces(lm: SpeechLM) -> None:
    tokenizer = tiny.byte_tokenizer()
    good, broken = encode(tokenizer, "a"), encode(tokenizer, "é")[:1]
    assert "".join(decoded(tokenizer, broken * 9 + good)) == "\ufffd" * 9 + "a"
    assert "".join(decoded(tokenizer, good + broken)) == "a"  # a character that was cut in two
    assert list(decoded(tokenizer, [])) == []


def test_white_space_at_the_ends_is_left_out_and_inside_is_kept(lm: SpeechLM) -> None:
    lm = with_template(lm)
    with dictated(lm, " \n It  is\n me. \n "):
        pieces = list(Writer(lm).start(QUESTION))
    assert "".join(pieces) == "It  is\n me." and all(p == p.rstrip() and p for p in pieces)


def test_text_comes_as_it_is_written(lm: SpeechLM) -> None:
    with dictated(lm, "It is me.") as left:
        writing = Writer(lm).start(QUESTION)
        assert len(left) == 10 and writing.text == ""
        seen = [(piece, writing.text, len(left)) for piece in writing]
    assert seen[0] == ("I", "I", 9) and seen[2] == (" i", "It i", 6)
    assert 0 < writing.report.first_text_sec <= writing.report.wall_sec


# Requests that cannot be answered


def test_mistakes_are_told_before_anything_is_written(lm: SpeechLM) -> None:
    lm.backbone.register_forward_hook(lambda *_: pytest.fail("it wrote"))
    writer = Writer(lm)

    def refused(question: object, message: str, options: WritingOptions = SHORT) -> None:
        with pytest.raises(VoicegraftError, match=message) as caught:
            writer.start(question, options)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)

    try:
        refused("", "nothing was asked")
        refused(" \n ", "nothing was asked")
        refused([], "got an empty conversation")
        refused(
            [Message.user("a"), Message.assistant("b")], "expected a last message of the user, got one of the assistant"
        )
        refused([Message.user("a"), Message.assistant("b"), Message.user(" ")], "nothing was asked")
        refused([("user", "a")], r"expected messages, such as Message.user\('Hello'\), got \('user', 'a'\)")
        heard = Waveform(np.zeros(8, np.float32), 8000)
        refused(Message.user("What is this?", heard), "got a message with audio: this model has no listening expert")
        refused("caf\udce9", "not text: surrogates not allowed at character 3")
        # "Question: ...\nAnswer:", one token a byte; this tokenizer adds no begin token.
        refused("a" * 1000, r"too long: it has 1018 tokens, 1004 fit \(the backbone sees 1024, 20 are kept")
        writer.start("a" * 986, SHORT)
        refused("a" * 987, "it has 1005 tokens, 1004 fit")
        refused("a", "expected max_tokens from 1 to 1023, the backbone sees 1024; got 0", WritingOptions(0))
        refused("a", "expected max_tokens from 1 to 1023, the backbone sees 1024; got 1024", WritingOptions(1024))
    finally:
        lm.backbone._forward_hooks.clear()


def test_a_template_that_does_not_take_the_turns_is_an_error(lm: SpeechLM) -> None:
    with pytest.raises(VoicegraftError, match="chat template does not take this conversation: twice the same"):
        Writer(with_template(lm)).start([Message.user("a"), Message.user("b")])


def test_one_question_may_be_asked_in_any_form(lm: SpeechLM) -> None:
    asked = (QUESTION, Message.user(QUESTION), [Message.user(QUESTION)], [Message.user(QUESTION[:4], QUESTION[4:])])
    texts = ["".join(Writer(lm).start(question, SHORT)) for question in asked]
    assert len(set(texts)) == 1 and texts[0]


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
LLAMA2 = (
    "{% if messages[0].role == 'system' %}{% set first = '<<SYS>>' + messages[0].content + '<</SYS>>' %}"
    "{% set messages = messages[1:] %}{% else %}{% set first = '' %}{% endif %}{% for m in messages %}"
    "{% if m.role == 'user' %}[INST] {{ first if loop.first }}{{ m.content | trim }} [/INST]{% else %} {{ m.content }} </s>"
    "{% endif %}{% endfor %}"
)
GEMMA = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
DEAF = "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"


@pytest.mark.parametrize("template", [None, CHATML, LLAMA2])
def test_every_message_is_in_the_prompt_in_order(template: str | None, lm: SpeechLM) -> None:
    tokenizer = tiny.byte_tokenizer()
    tokenizer.chat_template = template
    said = [Message.system("Be kind."), Message.user("Who is", " it?"), Message.assistant("Me."), Message.user("Why?")]
    text = tokenizer.decode(chat_prompt(tokenizer, said))
    places = [text.index(message.text) for message in said]
    assert places == sorted(places) and places[0] >= 0
    assert chat_prompt(tokenizer, said[1:]) != chat_prompt(tokenizer, said)


@pytest.mark.parametrize(
    "template, message", [(GEMMA, "System role not supported"), (DEAF, "no place for this system")]
)
def test_a_template_without_a_system_role_is_told_and_not_ignored(template: str, message: str, lm: SpeechLM) -> None:
    lm = copy.deepcopy(lm)
    lm.tokenizer.chat_template = template
    with pytest.raises(VoicegraftError, match=message):
        Writer(lm).start([Message.system("Be kind."), Message.user("Why?")])
    assert Writer(lm).start([Message.user("Why?")], SHORT).report.num_prompt > 0


def test_a_backbone_without_an_end_is_refused(lm: SpeechLM) -> None:
    lm = with_template(lm)
    lm.tokenizer.eos_token = None
    lm.backbone.generation_config.eos_token_id = None
    with pytest.raises(VoicegraftError, match="its tokenizer names no token that ends a text"):
        Writer(lm).start(QUESTION)


def test_a_long_question_does_not_make_the_tokenizer_talk(lm: SpeechLM, capfd: pytest.CaptureFixture[str]) -> None:
    lm = with_template(lm)
    lm.tokenizer.model_max_length = 100
    with pytest.raises(VoicegraftError, match="too long"):
        Writer(lm).start("a" * 5000)
    assert capfd.readouterr() == ("", "")


def turns(*texts: str) -> list[Message]:
    return [Message("assistant" if i % 2 else "user", (text,)) for i, text in enumerate(texts)]


@pytest.mark.parametrize(
    "lengths, kept",
    [((10, 10, 10), 3), ((900, 10, 10), 1), ((300, 300, 300, 300, 10), 3), ((10, 10, 2000), 1), ((2000,), 1)],
)
def test_the_oldest_exchanges_go_when_a_conversation_outgrows_the_context(
    lm: SpeechLM, lengths: Iterable[int], kept: int
) -> None:
    messages = turns(*("a" * n for n in lengths))
    fitting = Writer(lm).fitting(messages, WritingOptions(max_tokens=200))
    assert fitting == messages[-kept:] and fitting[0].role == "user"
    system = Message.system("Be kind.")
    assert Writer(lm).fitting([system, *messages], WritingOptions(max_tokens=200)) == [system, *messages[-kept:]]


@pytest.mark.gpu
def test_it_writes_on_a_gpu() -> None:
    lm = tiny.fused().to("cuda")
    for options in (SHORT, WritingOptions(20, Sampling(1.0, 0.9))):
        writing = Writer(lm).start(QUESTION, options)
        list(writing)
        assert writing.report.ids or not writing.report.cut
