"""Many sentences at once say what each says alone, by one call of the model per step."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import tiny
from voicegraft.data.layouts import Feed
from voicegraft.fusion.router import RouterSettings
from voicegraft.fusion.speech_lm import SpeechLM
from voicegraft.inference.engine import MOST_WAITING, Engine, SentenceTokens, sentence_tokens
from voicegraft.inference.sampling import Sampling
from voicegraft.inference.sentence import SpeakOptions
from voicegraft.tokenizers.vocabulary import END_OF_UNIT

OPTIONS = SpeakOptions(semantic=Sampling(0.7, 0.9), max_unit_frames=4, max_letter_frames=1.0)
WORDS = ["the", "owl", "sees", "my", "house", "now", "we", "go", "home"]
KINDS: list[dict[str, Any]] = [
    {"frames_per_step": 1},
    {"frames_per_step": 2},
    {"vocabulary": tiny.PLAIN, "layout": "plain", "frames_per_step": 2},
]


def model(folded: bool, **options: Any) -> SpeechLM:
    lm = tiny.fused(**options)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        lm.speech_embedding.head.weight.normal_(std=0.1, generator=generator)
        if lm.speech_embedding.head.bias is not None:
            lm.speech_embedding.head.bias[END_OF_UNIT] = 3.0
    return tiny.decode_through(lm, folded)


def sentences(lm: SpeechLM, count: int, engine: Engine | None = None) -> list[SentenceTokens]:
    """Of other texts, voices and seeds."""
    draw = np.random.default_rng(0)
    made = []
    for number in range(count):
        text = " ".join(draw.choice(WORDS, draw.integers(1, 4))).capitalize() + "."
        random = np.random.default_rng(number)
        made.append(sentence_tokens(lm, text, tiny.VOCABULARY.voices[number % 3], OPTIONS, random, engine))
    return made


def counted(lm: SpeechLM) -> list[int]:
    """The number of sequences in each call of the decoder from here on."""
    calls: list[int] = []
    step: Callable[..., list[Tensor]] = lm.decoder.step

    def one(inputs: Sequence[Tensor], *args: Any) -> list[Tensor]:
        calls.append(len(inputs))
        return step(inputs, *args)

    lm.decoder.step = one  # type: ignore[method-assign]
    return calls


@pytest.mark.parametrize("folded", [False, True], ids=["transformers", "folded"])
@pytest.mark.parametrize("kind", KINDS, ids=["guided", "groups", "plain"])
def test_sixteen_sentences_say_what_each_says_alone(kind: dict[str, Any], folded: bool) -> None:
    """They join and leave at different steps, and some are given up in the middle."""
    lm = model(folded, **kind)
    alone = [list(tokens) for tokens in sentences(lm, 16)]
    assert len({tuple(codes) for codes in alone}) > 10
    engine, calls = Engine(lm), counted(lm)
    together = sentences(lm, 16, engine)
    said: list[list[int]] = [[] for _ in together]
    given_up = {5: 9, 11: 0, 14: 14}  # sentence -> step
    num_steps = 0
    while num_steps < 12 or engine.sentences:
        for number, tokens in enumerate(together):
            if num_steps == number % 12:
                engine.join(tokens)
            if given_up.get(number) == num_steps - number % 12:
                engine.leave(tokens)
        before = len(calls)
        new = [tokens for tokens in engine.sentences if tokens.state is None]
        going = [tokens for tokens in engine.sentences if not tokens.is_over]
        engine.step()
        assert calls[before:] == [*[1] * len(new), *([len(going)] if going else [])]  # prompts are read alone
        for tokens, codes in zip(together, said, strict=True):
            codes += tokens.take()
            if tokens.is_over:
                engine.leave(tokens)
        num_steps += 1
    for number, (codes, expected) in enumerate(zip(said, alone, strict=True)):
        assert codes == (expected[: len(codes)] if number in given_up else expected)
    assert max(calls) > 8 and any(len(said[number]) < len(alone[number]) for number in given_up)


@pytest.mark.parametrize("folded", [False, True], ids=["transformers", "folded"])
@pytest.mark.parametrize("gates", ["speech", "mixtures", "unlike"])
@torch.inference_mode()
def test_a_batch_gives_the_logits_of_its_single_sequences(folded: bool, gates: str) -> None:
    """At different positions, reading more or fewer, after forgetting some; whatever the gates are."""
    lm = model(folded)
    mixtures = [torch.tensor([share, 1 - share]) for share in (0.2, 0.4, 0.6)]
    fixed = {
        "speech": ["speech"] * 3,
        "mixtures": mixtures,
        "unlike": ["speech", mixtures[0], mixtures[1].repeat(2, 1)],
    }
    made: dict[str, list[np.ndarray]] = {"alone": [], "together": []}
    for way, out in made.items():
        states, feeds = [], []
        for own, tokens in zip(fixed[gates], sentences(lm, 3), strict=True):
            lm.fixed = own
            states.append(lm.start(tokens.machine.prompt))
            feeds.append(tokens.machine.request)
        again = [Feed(tuple(feed.positions)[:2], crop=1) for feed in feeds if isinstance(feed, Feed)]
        for asked in (feeds, again):
            pairs = [([s], [f]) for s, f in zip(states, asked, strict=True)] if way == "alone" else [(states, asked)]
            for some, several in pairs:
                out += lm.advance(some, several)  # type: ignore[arg-type]
    np.testing.assert_allclose(np.concatenate(made["together"]), np.concatenate(made["alone"]), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("folded", [False, True], ids=["transformers", "folded"])
def test_reading_goes_at_its_own_pace_and_nobody_runs_far_ahead(folded: bool) -> None:
    lm = model(folded)
    engine = Engine(lm)
    slow, fast = sentences(lm, 2, engine)
    slow.machine.options = fast.machine.options = SpeakOptions(semantic=OPTIONS.semantic, pace=-30.0)
    engine.join(slow)
    for number, _ in enumerate(fast):
        if number == 3 * MOST_WAITING:
            break
    assert slow.num_waiting == MOST_WAITING and engine.sentences == [slow]


def test_a_router_of_tokens_forgets_what_is_taken_back() -> None:
    """Such a sequence runs again; nothing is read ahead for it."""
    lm = tiny.fused()
    router = tiny.taught_router(lm)
    torch.manual_seed(0)
    config = router.config
    lm.router = type(router)(
        type(config)(**{**vars(config), "settings": RouterSettings("token", hardness="soft")})
    ).eval()
    whole = sentence_tokens(
        lm, "The owl.", "ann", SpeakOptions(semantic=Sampling(0.0, 1.0), max_unit_frames=4, length_spread=0.0)
    )
    codes = list(whole)
    assert not whole.state.decoding.crops
    whole.rewind(whole.spoken[2].start_frame, 2)
    frame = whole.spoken[1].start_frame + whole.spoken[1].num_frames
    assert codes[:frame] + list(whole) == codes


def test_what_runs_between_the_models_needs_no_torch() -> None:
    modules = (
        "inference.engine inference.plain inference.sentence inference.sampling inference.stream inference.timestamps"
    )
    modules += " guard.guarded guard.monitor audio.chunks data.layouts data.sequences"
    code = "import sys, " + ", ".join(f"voicegraft.{m}" for m in modules.split()) + "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
