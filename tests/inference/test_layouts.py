"""Speaking obeys the layout that training taught, for every layout and number of frames per step."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import tiny
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.batches import collate
from voicegraft.data.layouts import Feed, Position, SpeechLayout
from voicegraft.data.lexicon import Lexicon
from voicegraft.data.sequences import IGNORE, plain_sequence, speech_sequence
from voicegraft.data.spelling import letter_windows
from voicegraft.fusion.speech_embedding import SpeechEmbeddingConfig
from voicegraft.fusion.speech_lm import SpeechLM
from voicegraft.inference.engine import SentenceTokens, sentence_tokens
from voicegraft.inference.plain import LEAST_FRAMES, PlainMachine
from voicegraft.inference.sampling import Sampling
from voicegraft.inference.sentence import GuidedMachine, Sentence, SpeakOptions
from voicegraft.text.units import BOUNDARIES, phones_by_word, words_of
from voicegraft.tokenizers.vocabulary import END_OF_UNIT, SpeechVocabulary

TEXT = "The owl sees."
GREEDY = SpeakOptions(semantic=Sampling(0.0, 1.0), max_unit_frames=9, length_spread=0.0)
RUNS = SpeechVocabulary(tiny.PLAIN.voices, (), 27, num_runs=3)
PLAIN: list[dict[str, Any]] = [
    {"vocabulary": vocabulary, "layout": "plain", "frames_per_step": size}
    for vocabulary in (tiny.PLAIN, RUNS)
    for size in (1, 2, 4)
]
GUIDED: list[dict[str, Any]] = [{"layout": "guided", "frames_per_step": size} for size in (1, 2, 4)]
GUIDED.append({"layout": "guided", "frames_per_step": 2, "num_layers": 1, "spells": "unknown"})


def name(options: dict[str, Any]) -> str:
    more = "-runs" if options.get("vocabulary") is RUNS else "-lower" if "num_layers" in options else ""
    return f"{options['layout']}{more}-{options['frames_per_step']}"


def model(options: dict[str, Any], merged: bool = False) -> SpeechLM:
    """A model whose units last a few frames each, and whose codes vary."""
    lm = tiny.fused(**options)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        lm.speech_embedding.head.weight.normal_(
            std=0.15 if lm.speech_embedding.head.bias is not None else 0.5, generator=generator
        )
        if lm.speech_embedding.head.bias is not None:
            lm.speech_embedding.head.bias[END_OF_UNIT] = 2.0
    return tiny.decode_through(lm, merged)


def slot_logits(lm: SpeechLM, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits ``[L, G, V]`` of one training sequence with the true tokens as past, and the targets ``[L, G]``."""
    text = lm.embed_text(batch["text"].clamp(min=0))
    hidden = lm.hidden(lm.speech_embedding.inputs(batch, text))[0]
    targets = torch.cat([batch["target"][0, :, None], batch["more_target"][0]], -1)
    logits = [lm.speech_embedding.logits(hidden)]
    for slot in range(targets.shape[1] - 1):
        hidden = lm.speech_embedding.after(hidden, targets[:, slot].clamp(min=0))
        logits.append(lm.speech_embedding.logits(hidden))
    return torch.stack(logits, 1), targets


def listened(tokens: SentenceTokens) -> list[Feed]:
    """What the machine will have asked for in the end."""
    asked: list[Feed] = []
    take = tokens.machine.take

    def keep(logits: np.ndarray) -> None:
        if isinstance(tokens.machine.request, Feed):
            asked.append(tokens.machine.request)
        take(logits)

    tokens.machine.take = keep  # type: ignore[method-assign]
    return asked


def columns(positions: Sequence[Position], size: int) -> dict[str, list[Any]]:
    """The fields of a training sequence at these positions."""
    groups = [[*p.tokens, *[-1] * (size - len(p.tokens))] for p in positions]
    own = {name: [getattr(p, name) for p in positions] for name in ("text", "voice", "elapsed")}
    wide = {name: [list(getattr(p, name)) for p in positions] for name in ("units", "letters")}
    return {**own, **wide, "token": [group[0] for group in groups], "more": [group[1:] for group in groups]}


@torch.inference_mode()
@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("options", GUIDED, ids=name)
def test_the_likeliest_codes_are_those_of_the_training_sequence(options: dict[str, Any], merged: bool) -> None:
    lm, size = model(options, merged), options["frames_per_step"]
    tokens = sentence_tokens(lm, TEXT, "ann", GREEDY)
    asked = listened(tokens)
    codes = list(tokens)
    assert len(set(codes)) > 3 and len({s.num_frames for s in tokens.spoken}) > 2
    counts = np.array([s.num_frames for s in tokens.spoken])
    said = np.array(codes), counts
    bare = speech_sequence(lm.vocabulary, lm.text_ids(TEXT), [], "ann", tokens.units, *said, frames_per_step=size)
    # What was spelt stands between the sentence and SPEECH_BOS; what was read ahead in vain is left out.
    read: list[Position] = []
    for feed in asked:
        del read[len(read) - feed.crop :]
        read += [*feed.positions, *feed.ahead]
    speaking = [p for p in read if any(p.units)]
    prompt = tokens.machine.prompt
    made, wanted = columns([*prompt, *speaking], size), {n: a.tolist() for n, a in vars(bare).items()}
    assert made == {field: wanted[field] for field in made}
    state = lm.start(prompt)
    lm.advance([state], [Feed(read[: len(read) - len(speaking)])])
    batch, begin = collate([bare], torch.device("cpu")), len(prompt)
    rows = lm.speech_embedding.inputs(batch, lm.embed_text(batch["text"].clamp(min=0)))[:, begin:]
    hidden = lm.hidden(rows, state.decoding)[0]
    targets = torch.cat([batch["target"][0, begin:, None], batch["more_target"][0, begin:]], -1)
    drawn = []
    for slot in range(size):
        if slot:
            hidden = lm.speech_embedding.after(hidden, targets[:, slot - 1].clamp(min=0))
        first = lm.vocabulary.first_code
        drawn.append(lm.speech_embedding.logits(hidden)[:, first:].argmax(-1) + first)
    is_code = targets >= lm.vocabulary.first_code
    assert int(is_code.sum()) == len(codes)
    assert torch.equal(torch.stack(drawn, 1)[is_code], targets[is_code].long())


@torch.inference_mode()
@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("options", PLAIN, ids=name)
def test_plain_speech_is_the_training_sequences_greedy_continuation(options: dict[str, Any], merged: bool) -> None:
    lm = model(options, merged)
    tokens = sentence_tokens(lm, TEXT, "ann", GREEDY)
    asked = listened(tokens)
    codes = list(tokens)
    assert len(set(codes)) > 1
    vocabulary, size = lm.vocabulary, options["frames_per_step"]
    positions = [p for feed in asked for p in feed.positions]
    said = [token for p in positions[1:] for token in p.tokens]  # nothing was read of the last group
    sequence = plain_sequence(vocabulary, lm.text_ids(TEXT), "ann", said, size)
    made, expected = columns([*tokens.machine.prompt, *positions], size), vars(sequence)
    assert made == {field: expected[field][: len(made["text"])].tolist() for field in made}
    logits, targets = slot_logits(lm, collate([sequence], torch.device("cpu")))
    wanted = (targets != IGNORE) & (targets >= vocabulary.first_code)
    allowed = logits[wanted].clone()
    allowed[:, : vocabulary.first_code] = -torch.inf
    length = targets[wanted] >= vocabulary.first_run
    allowed[length, : vocabulary.first_run] = -torch.inf
    allowed[~length, vocabulary.first_run :] = -torch.inf
    assert torch.equal(allowed.argmax(-1), targets[wanted].long())
    num_frames = int((targets[wanted][length] - vocabulary.first_run + 1).sum()) if vocabulary.num_runs else len(said)
    most = (vocabulary.num_runs or 1) * size  # that the last group may hold
    assert num_frames <= len(codes) <= min(num_frames + most, cast(PlainMachine, tokens.machine).budget)


@pytest.mark.parametrize(("text", "letters"), [("The owl.", 6), ("2026", 16), ("你好。", 6)])
def test_the_budget_of_plain_speech_is_by_how_long_letters_take(text: str, letters: int) -> None:
    machine = PlainMachine(
        SpeechLayout(tiny.PLAIN, "ann"), Sentence(text, (1,)), "ann", SpeakOptions(max_letter_frames=10)
    )
    assert machine.budget == LEAST_FRAMES + 10 * letters


def test_plain_speech_ends_with_the_models_end_or_the_budget() -> None:
    lm = model(PLAIN[0])
    free = sentence_tokens(lm, TEXT, "ann", GREEDY)
    codes = list(free)
    assert free.machine.cut and len(codes) == cast(PlainMachine, free.machine).budget == LEAST_FRAMES + 10 * 12
    with torch.no_grad():
        lm.speech_embedding.head.weight[END_OF_UNIT] = 0.0  # likelier than what is drawn once all others are below
        lm.speech_embedding.head.weight[lm.vocabulary.first_code :] *= -1
    random = SpeakOptions(semantic=Sampling(1.0, 1.0))
    ended = [sentence_tokens(lm, TEXT, "ann", random, np.random.default_rng(seed)) for seed in range(8)]
    lengths = [len(list(tokens)) for tokens in ended]
    assert min(lengths) >= 1 and not all(tokens.machine.cut for tokens in ended)
    one = sentence_tokens(lm, TEXT, "ann", random, np.random.default_rng(0))
    assert len(list(one)) == lengths[0]


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("size", [2, 4])
def test_going_back_says_the_same_again_whatever_the_size_of_the_steps(size: int, merged: bool) -> None:
    lm = model({"frames_per_step": size}, merged)
    whole = sentence_tokens(lm, TEXT, "ann", GREEDY)
    tokens, spoken = list(whole), list(whole.spoken)
    for unit in (len(whole.units) - 3, 3, 0):
        frame = spoken[unit].start_frame
        for further in (1, 2, 5):  # in the middle of a group and at its end
            again = sentence_tokens(lm, TEXT, "ann", GREEDY)
            source = iter(again)
            for _ in range(min(frame + further, len(tokens))):
                next(source)
            again.rewind(frame, unit)
            assert tokens[:frame] + list(again) == tokens
            assert again.spoken == spoken


@pytest.mark.parametrize("options", [*GUIDED, *PLAIN], ids=name)
def test_the_expert_says_in_which_layout_it_speaks(options: dict[str, Any]) -> None:
    lm = model(options)
    tokens = sentence_tokens(lm, TEXT, "ann", GREEDY)
    assert isinstance(tokens.machine, PlainMachine if options["layout"] == "plain" else GuidedMachine)
    assert (lm.speech_embedding.head.bias is None) == (options["layout"] == "plain")


def test_layouts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="num_runs"):
        SpeechEmbeddingConfig(RUNS, 8, 8, "", "")
    with pytest.raises(ValueError, match="frames_per_step must be 1 or more"):
        SpeechEmbeddingConfig(tiny.PLAIN, 8, 8, "", "", layout="plain", frames_per_step=0)


def test_an_expert_of_one_frame_per_step_is_a_beginning_for_more(tmp_path: Any) -> None:
    one = tiny.trained_expert(tiny.llama())
    one.save(tmp_path / "one", {})
    two = tiny.trained_expert(tiny.llama(), frames_per_step=2)
    two.take(tmp_path / "one")
    assert torch.allclose(two.speech_embedding.token.weight, one.speech_embedding.token.weight, atol=1e-3)
    two.save(tmp_path / "two", {})
    with pytest.raises(VoicegraftError, match="only an expert of one frame per step can be taken over"):
        one.take(tmp_path / "two")
    with pytest.raises(VoicegraftError, match="another vocabulary, layout"):
        tiny.trained_expert(tiny.llama(), vocabulary=tiny.PLAIN, layout="plain").take(tmp_path / "one")


@pytest.mark.parametrize(
    "known", [{}, {0: ("dh", "ax")}, {1: ("aw", "l")}, {0: ("dh", "iy"), 2: ("s", "iy", "z")}, {0: (), 1: ("aw",)}]
)
def test_what_is_known_is_not_spelt(known: dict[int, tuple[str, ...]]) -> None:
    lm = model(GUIDED[-1])
    lm.lexicon = Lexicon({})
    tokens = sentence_tokens(lm, TEXT, "ann", GREEDY, pronunciations=known)
    asked = listened(tokens)
    list(tokens)
    units, words = tokens.units, words_of(TEXT)
    said = phones_by_word(units)
    assert units[0] == "^" and [unit for unit in units if unit in BOUNDARIES] == [word.boundary for word in words]
    assert all(said[number] == phones for number, phones in known.items() if phones)
    letters = {p.letters for feed in asked for p in (*feed.positions, *feed.ahead) if any(p.letters)}
    unknown = [word for number, word in enumerate(words) if number not in known]
    assert letters == {window for word in unknown for window in letter_windows(word.letters)}


def test_a_lexicon_is_asked_first_and_the_front_end_has_the_last_word() -> None:
    lm = model(GUIDED[-1])
    lm.lexicon = tiny.LEXICON
    tokens = sentence_tokens(lm, TEXT, "ann", GREEDY, pronunciations={1: ("ow", "l")})
    assert " ".join(tokens.spell()) == "^ dh iy | ow l | s iy z ."
