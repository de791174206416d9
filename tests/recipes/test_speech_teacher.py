"""A pack that speaks teaches another expert: what it expects, and what it says."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.batches import collate
from voicegraft.data.manifest import read_manifest
from voicegraft.data.prepared import SAID, PreparedSpeech, frame_counts
from voicegraft.data.sequences import SpeechSequence, speech_sequence
from voicegraft.data.shards import RaggedArray
from voicegraft.data.splits import text_key
from voicegraft.fusion.lora_training import SpeechExpertTraining
from voicegraft.inference.pack import open_pack
from voicegraft.recipes import say as says
from voicegraft.recipes.say import SayConfig, say
from voicegraft.recipes.speech_teacher import SpeechTeacher
from voicegraft.tokenizers.vocabulary import END_OF_UNIT

CPU = torch.device("cpu")


@pytest.fixture
def teacher(pack_folder: Path) -> SpeechTeacher:
    pack = open_pack(pack_folder)
    return SpeechTeacher(pack, pack.lm.speech_embedding.config.semantic)


def sequences(frames_per_step: int = 1) -> list[SpeechSequence]:
    """Three sentences with made-up codes, said in one to four frames a unit."""
    draw, made = np.random.default_rng(0), []
    for text in tiny.SENTENCES[:3]:
        units = tiny.LEXICON.units(text) or []
        counts = draw.integers(1, 5, len(units))
        codes = draw.integers(0, 27, counts.sum())
        ids, words = [2, *text.encode()], tiny.words_said(text)
        said = (codes, counts, frames_per_step)
        made.append(speech_sequence(tiny.VOCABULARY, ids, words, "ben", units, *said))
    return made


def test_what_is_expected_is_the_softmax_over_the_end_and_the_codes(teacher: SpeechTeacher) -> None:
    several = sequences()
    found = teacher.expects(several, CPU)
    first = teacher.vocabulary.first_code
    for sequence in several:
        batch = collate([sequence], CPU)
        lm = teacher.lm
        with torch.no_grad():
            hidden = lm.hidden(lm.speech_embedding.inputs(batch, lm.embed_text(batch["text"].clamp(min=0))))
        logits = lm.speech_embedding.logits(hidden)[0, batch["units"][0].any(-1)]
        own = torch.cat([logits[:, [END_OF_UNIT]], logits[:, first:]], 1).log_softmax(-1)
        assert torch.allclose(found[: len(own)], own, atol=1e-5)
        found = found[len(own) :]
    assert len(found) == 0


@torch.no_grad()
@pytest.mark.parametrize("frames_per_step", [1, 2, 4])
def test_whatever_the_size_of_the_steps_tokens_are_told_in_the_order_of_reading(frames_per_step: int) -> None:
    batch = collate(sequences(frames_per_step), CPU)
    expert = tiny.trained_expert(tiny.llama(), frames_per_step=frames_per_step)
    said = expert.speech_embedding.predicted(torch.randn(*batch["token"].shape, 32), batch)
    spoken = said.target[said.spoken][said.place[said.spoken].argsort()]
    bare = collate(sequences(), CPU)
    assert torch.equal(spoken, bare["target"][bare["units"].any(-1) & (bare["target"] >= 0)])
    # Who is its own teacher has nothing to learn but what it gives to tokens that are never said.
    hidden = torch.randn(*batch["token"].shape, 32, generator=torch.Generator().manual_seed(1))
    mine = expert.speech_embedding.predicted(hidden, batch).speaking(tiny.VOCABULARY)
    _, parts = expert.speech_embedding.loss(hidden, batch, mine.log_softmax(-1))
    assert float(parts["kl"]) == pytest.approx(float(-mine.logsumexp(-1).mean()), abs=1e-4)


def test_learning_from_a_teacher_comes_near_to_it(teacher: SpeechTeacher) -> None:
    torch.manual_seed(0)
    semantic = teacher.lm.speech_embedding.config.semantic
    expert = SpeechExpertTraining(tiny.llama(), tiny.byte_tokenizer(), tiny.VOCABULARY, semantic, tiny.LORA)
    batch = {**collate(sequences(), CPU), "taught": teacher.expects(sequences(), CPU)}
    adam = torch.optim.Adam([p for p in expert.parameters() if p.requires_grad], lr=0.01)
    far = []
    for _ in range(60):
        adam.zero_grad()
        loss, parts = expert(batch)
        loss.backward()
        adam.step()
        far.append(float(parts["kl"]))
    assert far[-1] < 0.3 * far[0]


def test_a_teacher_of_other_tokens_is_refused(pack_folder: Path) -> None:
    with pytest.raises(VoicegraftError, match="cannot teach: expected the guided layout and semantic tokens other"):
        SpeechTeacher(open_pack(pack_folder), "other")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(says, "SHARD_SEC", 1)
    tiny.write_made_up_speech(tmp_path / "work")
    lines = [f"{text[:-1]}, now." for text in tiny.SENTENCES] + [f"Now, {text}" for text in tiny.SENTENCES]
    (tmp_path / "work" / "sentences.txt").write_text("\n".join([*tiny.SENTENCES, *lines] * 3))
    return tmp_path / "work"


def test_what_a_pack_says_is_kept_with_its_units_and_times(work: Path, pack_folder: Path) -> None:
    config = SayConfig(str(work), str(pack_folder), hours=2 / 3600, least_words=1, at_once=3)
    say(config)
    folders = sorted((work / SAID).iterdir())
    assert [folder.name for folder in folders] == ["said-000", "said-001"]
    held = {text_key(clip.utterance.text) for clip in PreparedSpeech(work).select("val")}
    assert held
    for folder in folders:
        rows = read_manifest(folder)
        codes = RaggedArray(
            work / "tokens" / "semantic" / folder.name, key=open_pack(pack_folder).acoustic.config.semantic
        )
        assert len(rows) == len(codes) and sum(row.duration_sec for row in rows) >= 1
        for row, said in zip(rows, codes, strict=True):
            assert row.synthetic and text_key(row.text) not in held
            assert said.shape == (round(row.duration_sec * 50), 1) and said.min() >= 0 and said.max() < 27
            assert len(row.units) == len(row.unit_ends_sec) and row.units[0] == "^"
            assert frame_counts(row, len(said), 50).sum() == len(said)
    first = folders[0] / "manifest.jsonl"
    before = first.read_bytes(), (folders[1] / "manifest.jsonl").read_bytes()
    (folders[1] / "manifest.jsonl").unlink()
    time = first.stat().st_mtime_ns
    say(config)
    assert first.stat().st_mtime_ns == time
    assert (first.read_bytes(), (folders[1] / "manifest.jsonl").read_bytes()) == before
    speech = PreparedSpeech(work)
    speech.add_said(work)
    assert len(speech.select("train", synthetic=True)) > len(PreparedSpeech(work).select("train", synthetic=True))
    speech.say_in(("ann",))
    assert {clip.utterance.speaker for clip in speech.clips} == {"ann"} == set(speech.speakers)


def test_too_few_sentences_are_told(work: Path, pack_folder: Path) -> None:
    with pytest.raises(VoicegraftError, match=r"sentences make \d+ s of speech, a shard needs 1"):
        say(SayConfig(str(work), str(pack_folder), hours=2 / 3600, least_words=99))
