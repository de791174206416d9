"""Conversations with audio: what is written is what PEFT's model writes of the same embeddings, and what is only text stays."""

import copy
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import PreTrainedModel

from tests import tiny
from tests.ears import sound, write_listening
from tests.inference.test_writer import CHATML
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.messages import Message, Question
from voicegraft.data.chat import AUDIO, chat_prompt
from voicegraft.fusion.backbone import load_backbone
from voicegraft.fusion.text_lm import TextLM
from voicegraft.inference.pack import open_pack
from voicegraft.inference.speaker import Speaker
from voicegraft.inference.writer import Writer, WritingOptions

CLIPS = [sound(0.7), sound(0.3, seed=1)]  # 35 and 15 frames: 9 and 4 vectors
ASKED = [Message.user("Who is this? ", CLIPS[0]), Message.assistant("Me."), Message.user(CLIPS[1], " And this?")]
SHORT = WritingOptions(max_tokens=12)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hears")
    tiny.write_backbone(folder / "backbone")
    write_listening(folder / "listening", load_backbone(folder / "backbone")[0])
    return folder


@pytest.fixture(scope="module")
def lm(work: Path) -> TextLM:
    return TextLM.load(work / "backbone", listening=work / "listening")


def written(lm: TextLM, question: Question) -> list[int]:
    writer = Writer(lm)
    writer.stops = frozenset([-1])
    writing = writer.start(question, SHORT)
    list(writing)
    return writing.report.ids


def by_transformers(model: PreTrainedModel, embeddings: torch.Tensor) -> list[int]:
    """Greedy, by full forwards alone."""
    ids = []
    for _ in range(SHORT.max_tokens):
        ids.append(int(model(inputs_embeds=embeddings, use_cache=False).logits[0, -1].argmax()))
        embeddings = torch.cat([embeddings, model.get_input_embeddings()(torch.tensor([ids[-1:]]))], 1)
    return ids


@torch.inference_mode()
@pytest.mark.parametrize("template", [None, CHATML])
def test_writing_of_what_was_heard_is_pefts_model_at_work(lm: TextLM, work: Path, template: str | None) -> None:
    lm = copy.copy(lm)
    lm.tokenizer = tiny.byte_tokenizer()
    lm.tokenizer.chat_template = template
    theirs = PeftModel.from_pretrained(tiny.llama(), str(work / "listening" / "listening")).eval().get_base_model()
    heard = iter(lm.hearing.listen(CLIPS))  # type: ignore[union-attr]
    rows = [
        next(heard) if i == AUDIO else theirs.get_input_embeddings().weight[i, None]
        for i in chat_prompt(lm.tokenizer, ASKED)
    ]
    answer = written(lm, ASKED)
    assert answer == by_transformers(theirs, torch.cat(rows)[None])
    assert answer != written(lm, [*ASKED[:2], Message.user(CLIPS[0], " And this?")])  # it does hear
    silent = chat_prompt(lm.tokenizer, [Message.user("Why?")])
    assert written(lm, "Why?") == by_transformers(
        tiny.llama(), tiny.llama().get_input_embeddings()(torch.tensor([silent]))
    )


def test_a_beginning_that_was_read_before_changes_nothing(lm: TextLM) -> None:
    writer = Writer(lm)
    to_come = sound(0.1)
    beginning = writer.begin([Message.user("Who is this? ", to_come), *ASKED[1:]])
    whole = list(writer.start(ASKED, SHORT))
    lengths: list[int] = []
    hook = lm.backbone.model.layers[0].register_forward_pre_hook(lambda _, given: lengths.append(given[0].shape[1]))
    for _ in range(2):  # it may be used again
        writing = writer.start(ASKED, SHORT, beginning=beginning)
        lengths.clear()
        assert list(writing) == whole
        assert lengths[0] == writing.report.num_prompt - len(beginning.ids) > 0
    hook.remove()
    for other in (ASKED[2:], "Who is this? And what?"):
        assert list(writer.start(other, SHORT, beginning=beginning)) == list(writer.start(other, SHORT))


def test_vectors_count_as_tokens_do(lm: TextLM) -> None:
    writer = Writer(lm)
    text = [Message(m.role, (m.marked(""),)) for m in ASKED]
    bare = writer.start(text, SHORT).report.num_prompt
    assert writer.start(ASKED, SHORT).report.num_prompt == bare + 9 + 4
    with pytest.raises(VoicegraftError, match=r"it has 1025 tokens, 1012 fit"):
        writer.start([Message.user("a" * 1003, CLIPS[1])], SHORT)
    room = WritingOptions(max_tokens=1024 - (bare + 13))
    assert writer.fitting(ASKED, room) == ASKED
    assert writer.fitting(ASKED, WritingOptions(room.max_tokens + 1)) == ASKED[2:]


def test_only_users_are_heard(lm: TextLM) -> None:
    with pytest.raises(VoicegraftError, match="got some in the system's: send its words"):
        Writer(lm).start([Message.system(CLIPS[0]), Message.user("Why?")])


@pytest.fixture(scope="module")
def hearing_pack(pack_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack") / "pack"
    shutil.copytree(pack_folder, folder)
    write_listening(folder / "listening", load_backbone(folder / "backbone")[0])
    return folder


def test_a_pack_with_ears_answers_in_text_and_aloud(hearing_pack: Path) -> None:
    speaker = Speaker.load(hearing_pack)
    question = Message.user("What is said here?", CLIPS[0])
    text = "".join(speaker.write(question, options=SHORT))
    assert text and text == "".join(Writer(open_pack(hearing_pack).lm).start(question, SHORT))
    answer = speaker.ask(question, writing=SHORT)
    assert sum(map(len, answer)) > 0 and answer.text == text


def test_a_pack_speaks_and_writes_as_without_ears(hearing_pack: Path, pack_folder: Path, tmp_path: Path) -> None:
    """Also where its encoder is not on this machine."""
    shutil.copytree(hearing_pack, tmp_path / "pack")
    shutil.rmtree(tmp_path / "pack" / "listening" / "encoder")
    deaf, speaker = Speaker.load(pack_folder), Speaker.load(tmp_path / "pack")
    assert speaker.pack.lm.router is not None and len(speaker.pack.lm.mole.names) == 3
    assert (speaker.say("We see.", "ann").samples == deaf.say("We see.", "ann").samples).all()
    assert list(speaker.write("Why?", options=SHORT)) == list(deaf.write("Why?", options=SHORT))
    with pytest.raises(VoicegraftError, match="there is no such folder"):
        speaker.write(Message.user(CLIPS[0]))
