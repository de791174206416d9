"""The recipes around the fused model, on tiny parts: nothing is learnt; all must fit, and the table must tell the truth."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import paper_table
from benchmarks.paper_table import ReproduceConfig, System, decode_cost, reproduce
from tests import tiny
from tests.corpora import write_corpora
from tests.evaluation.conftest import CountingRecognizer, LevelPredictor, SpectrumJudge
from voicegraft.audio.io import write_audio
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.manifest import write_manifest
from voicegraft.data.questions import QuestionsConfig
from voicegraft.evaluation.judges.base import Judges
from voicegraft.fusion.router import RouterSettings
from voicegraft.fusion.speech_lm import SpeechLM
from voicegraft.inference.pack import PackHeader, write_pack
from voicegraft.recipes.speech_material import Round
from voicegraft.recipes.tokenize import TokenizeConfig, tokenize
from voicegraft.recipes.train_router import TrainRouterConfig, train_router
from voicegraft.recipes.train_speech import TrainSpeechConfig, train_speech
from voicegraft.recipes.train_text import TrainTextConfig, train_text
from voicegraft.train.config import LoopConfig

pytestmark = pytest.mark.benchmarks

pytestmark = pytest.mark.slow

LOOP = LoopConfig(steps=2, warmup_steps=1, precision="no", log_every=1, save_every=1, validate_every=2)
ASKED = QuestionsConfig(reading=30, dialogue=10, arithmetic=20, words=20, trivia=10, yes_or_no=5)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("fusing")
    tiny.write_made_up_speech(work)
    tiny.write_parts(work)
    write_corpora(work / "corpora")
    tokenize(TokenizeConfig(str(work), device="cpu"))
    made = tiny.made_up_utterance("clip", "ben", "test", tiny.SENTENCES[0], False, seed=3)
    (work / "corpora" / "ben").mkdir()
    write_audio(work / "corpora" / "ben" / "clip.wav", made.samples, tiny.RATE)
    write_manifest(
        work / "corpora" / "ben", [made.utterance.__class__(**{**vars(made.utterance), "audio": "clip.wav"})]
    )
    (work / "prompts.txt").write_text("We see.\nGo home.\n")
    write_pack(
        work / "pack",
        work,
        PackHeader("tiny", default_voice="ben", options=replace(tiny.OPTIONS, max_unit_frames=1)),
        "card",
    )
    return work


def test_the_table_is_made_of_trained_parts(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_table, "decode_cost", partial(decode_cost, turns=1, rounds=1))
    train_text(TrainTextConfig(str(work), lora=tiny.LORA, loop=LOOP, questions=ASKED, held_back=8, device="cpu"))
    for name, options in (("joint", {"text_share": 0.5}), ("activated", {"activated": True, "chat_context": 0.5})):
        rounds = (Round(LOOP, 0.3, 0.4),)
        train_speech(
            TrainSpeechConfig(
                str(work),
                out=name,
                lora=tiny.LORA,
                rounds=rounds,
                batch_positions=512,
                num_pronunciations=6,
                num_word_lists=4,
                questions=ASKED,
                device="cpu",
                **options,  # type: ignore[arg-type]
            )
        )
    for name, expert, settings in (
        ("segment", "expert", RouterSettings(hidden=4)),
        ("token", "activated", RouterSettings("token", True, "soft", hidden=4)),
        ("segment-activated", "activated", RouterSettings(hidden=4)),
    ):
        train_router(
            TrainRouterConfig(
                str(work),
                expert=str(work / expert),
                out=name,
                router=settings,
                questions=ASKED,
                loop=LOOP,
                batch_positions=512,
                num_sentences=6,
                device="cpu",
            )
        )
    assert SpeechLM.load(work / "backbone", work / "activated", work / "token").speech_embedding.config.activated
    systems = (
        System("untouched", gates="none"),
        System("speech alone", gates="speech"),
        System("text alone", text_expert="text-expert/text", gates="text", num_prompts=1),
        System("joint", expert="joint", gates="speech"),
        System("averaged", text_expert="text-expert/text", gates="uniform"),
        System("oracle"),
        System("segment", gates="router", router="segment"),
        System("token", expert="activated", gates="router", router="token"),
    )
    config = ReproduceConfig(
        systems=systems,
        work=str(work),
        pack=str(work / "pack"),
        out=str(work / "out"),
        prompts=str(work / "prompts.txt"),
        num_prompts=2,
        recordings=("corpora/ben",),
        questions_per_kind=3,
        spoken_per_kind=1,
        num_routed=8,
        books_held_out=0.1,
        limit=3,
        context=128,
        max_answer_tokens=3,
        device="cpu",
    )
    judges = Judges(CountingRecognizer(), LevelPredictor(), SpectrumJudge())
    chooser = FirstOption()
    report = reproduce(config, judges, chooser)
    table = json.loads((work / "out" / "report.json").read_text())
    for system in systems:
        assert f"| {system.name} |" in report
    # What holds by construction, and what the columns must not mix up.
    assert table["oracle"]["text"] == table["untouched"]["text"]
    parts = {name: table[name]["text"]["tasks"] for name in ("untouched", "speech alone")}
    assert {"own: reading", "own: trivia", "perplexity: books", "perplexity: dialogues"} <= parts["untouched"].keys()
    assert parts["untouched"].keys() == parts["speech alone"].keys()
    books = [part["perplexity: books"]["per_word"] for part in parts.values()]
    assert books[0] != books[1] and len(parts["untouched"]["own: reading"]["answers"]) == 3
    assert f"| {books[0]:.1e} |" in report
    assert table["oracle"]["speech"]["wer"] == table["speech alone"]["speech"]["wer"]
    assert "speech" not in table["untouched"] and "router" not in table["oracle"]
    assert sum(sum(row.values()) for row in table["segment"]["router"]["counts"].values()) == 8 + 4
    trained = {name: table[name]["size"]["trained"] for name in table if name in {s.name for s in systems}}
    assert trained["untouched"] == 0 < trained["text alone"] < trained["speech alone"] < trained["averaged"]
    assert trained["speech alone"] == trained["joint"] == trained["oracle"] < trained["segment"]
    # An interrupted run goes on: nothing is measured twice.
    heard = judges.recognizer.num_calls
    alone = table["segment"]["router"]["right"]["speech"] == 1.0  # then its sounds are those of the speech expert, too
    assert heard == 1 + 2 * (4 if alone else 5) and chooser.num_calls > 0
    again = reproduce(config, judges, chooser).splitlines()
    of_the_moment = "- load: "  # of the machine
    assert [x for x in again if of_the_moment not in x] == [x for x in report.splitlines() if of_the_moment not in x]
    assert judges.recognizer.num_calls == heard


class FirstOption:
    num_calls = 0

    def choose(self, samples: np.ndarray, sample_rate: int, options: Sequence[str]) -> str:
        self.num_calls += 1
        return options[0]


def test_what_is_missing_is_said_before_anything_is_measured(work: Path) -> None:
    systems = (System("a", expert="nobody"), System("b", gates="router", router="nothing"))
    with pytest.raises(
        VoicegraftError, match=r"lacks .*nobody/rows \(voicegraft recipe train_speech out=nobody\).*nothing"
    ):
        reproduce(ReproduceConfig(systems=systems, work=str(work)))
    with pytest.raises(VoicegraftError, match="choose among arc_easy"):
        reproduce(ReproduceConfig(systems=(System("oracle"),), work=str(work), tasks=("own",)))
    with pytest.raises(ValueError, match="gates: router goes with the folder of a router"):
        System("c", gates="router")


@pytest.mark.parametrize("merges", [False, True])
def test_the_cost_of_a_step_is_of_the_engine_in_use(work: Path, merges: bool) -> None:
    lm = SpeechLM.load(work / "backbone", work / "expert")
    tiny.decode_through(lm, folded=merges)
    with torch.inference_mode():
        cost = decode_cost(lm, turns=2, turn_steps=2, rounds=1)
    assert cost["ratio"] > 0 and cost["engine"] == ("merged copy" if merges else "fused layers")
