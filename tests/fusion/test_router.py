"""The router: what it sees, what it may not see, and that steps, batches and threads agree."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from tests import tiny
from tests.fusion.test_speech_lm import FAMILIES, IDS, random_backbone
from voicegraft.core.errors import VoicegraftError
from voicegraft.fusion.decoders.folded import FoldedDecoder
from voicegraft.fusion.experts import Expert
from voicegraft.fusion.router import Router, RouterConfig, RouterSettings
from voicegraft.fusion.speech_lm import SpeechLM

KINDS = [
    RouterSettings(granularity, per_layer, hardness, hidden=8)
    for granularity in ("segment", "token")
    for per_layer in (False, True)
    for hardness in ("top-1", "soft")
]
SEGMENT = [kind for kind in KINDS if kind.granularity == "segment"]


def name(kind: RouterSettings) -> str:
    return f"{kind.granularity} {'per layer' if kind.per_layer else 'shared'} {kind.hardness}"


def routed(kind: RouterSettings, lm: SpeechLM | None = None, seed: int = 0) -> SpeechLM:
    """A fused model whose router is undecided: a fresh one, with weights that matter."""
    lm = tiny.fused() if lm is None else lm
    torch.manual_seed(seed)
    lm.router = Router(
        RouterConfig(lm.mole.names, 32, lm.mole.num_layers, lm.speech_embedding.config.backbone, kind)
    ).eval()
    with torch.no_grad():
        for reader in lm.router.readers:
            reader.leave.weight.normal_(std=1.0)
            reader.leave.bias.zero_()
    return lm.requires_grad_(False)


def force(lm: SpeechLM, expert: str) -> None:
    """The router chooses one expert, whatever comes."""
    assert lm.router is not None
    for reader in lm.router.readers:
        reader.leave.weight.zero_()
        reader.leave.bias.copy_(
            torch.tensor([50.0 * (n == expert) for n in lm.mole.names]).repeat(100)[: len(reader.leave.bias)]
        )


def logits(lm: SpeechLM, ids: Tensor) -> Tensor:
    with lm.mole.gated(lm.writing()):
        return lm.backbone(input_ids=ids).logits


@torch.inference_mode()
@pytest.mark.parametrize("kind", KINDS, ids=name)
def test_a_router_that_chooses_one_expert_is_that_expert(kind: RouterSettings) -> None:
    lm = routed(kind)
    bare = tiny.llama()(input_ids=IDS).logits
    assert not torch.allclose(logits(lm, IDS), bare, atol=1e-3) or kind.hardness == "top-1"  # before, it mixes
    force(lm, "text")
    assert torch.equal(logits(lm, IDS), bare) if kind.hardness == "top-1" else torch.allclose(logits(lm, IDS), bare)
    force(lm, "speech")
    with lm.mole.gated("speech"):
        alone = lm.backbone(input_ids=IDS).logits
    torch.testing.assert_close(logits(lm, IDS), alone)
    assert not torch.allclose(alone, bare, atol=1e-2)


@pytest.fixture(scope="module", params=FAMILIES)
def twins(request: pytest.FixtureRequest) -> tuple[PreTrainedModel, SpeechLM]:
    """An untouched backbone, and the same with experts on it."""
    untouched = random_backbone(request.param)
    return untouched, tiny.speech_lm(copy.deepcopy(untouched))


@torch.inference_mode()
@pytest.mark.parametrize("kind", [k for k in KINDS if k.hardness == "top-1"], ids=name)
def test_text_under_a_router_that_sees_text_is_the_untouched_backbones_bit_for_bit(
    twins: tuple[PreTrainedModel, SpeechLM], kind: RouterSettings
) -> None:
    """In prefill, cached decoding and batches, through whatever the family calls its layers."""
    untouched, lm = twins[0], routed(kind, twins[1])
    force(lm, "text")
    assert torch.equal(logits(lm, IDS), untouched(input_ids=IDS).logits)
    ours, theirs = (DynamicCache(config=untouched.config) for _ in range(2))
    gates = lm.writing()
    for piece in (IDS[:, :5], *IDS[:, 5:].split(1, dim=1)):
        with lm.mole.gated(gates):
            made = lm.backbone(input_ids=piece, past_key_values=ours, use_cache=True).logits
        assert torch.equal(made, untouched(input_ids=piece, past_key_values=theirs, use_cache=True).logits)


@torch.inference_mode()
@pytest.mark.parametrize("kind", KINDS, ids=name)
def test_steps_are_the_full_forward(kind: RouterSettings) -> None:
    """A segment is decided by its prompt; a token by what has come so far; both also when they come one by one."""
    lm = routed(kind)
    assert lm.router is not None
    prompt = torch.zeros_like(IDS, dtype=torch.bool)
    prompt[:, :6] = True
    with lm.mole.gated(lm.router.start(prompt)):
        full = lm.backbone(input_ids=IDS).logits
    gates, cache = lm.router.start(), DynamicCache()
    steps = []
    for piece in (IDS[:, :6], *IDS[:, 6:].split([1, 1, 3, 1, 2], 1)):
        with lm.mole.gated(gates):
            steps.append(lm.backbone(input_ids=piece, past_key_values=cache, use_cache=True).logits)
    torch.testing.assert_close(torch.cat(steps, 1), full, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("kind", KINDS, ids=name)
def test_a_batch_is_routed_as_its_sequences(kind: RouterSettings) -> None:
    lm = routed(kind)
    assert lm.router is not None
    both = logits(lm, IDS)
    for row in range(len(IDS)):
        torch.testing.assert_close(logits(lm, IDS[row : row + 1])[0], both[row], atol=1e-4, rtol=1e-4)
    padded = torch.cat([IDS, torch.zeros_like(IDS[:, :3])], 1)
    inside = torch.ones_like(padded, dtype=torch.bool)
    inside[:, -3:] = False
    with lm.mole.gated(lm.router.start(inside)):
        torch.testing.assert_close(lm.backbone(input_ids=padded).logits[:, :-3], both, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("kind", [k for k in KINDS if k.granularity == "token"], ids=name)
def test_a_token_router_does_not_look_ahead_and_changes_its_mind(kind: RouterSettings) -> None:
    lm = routed(kind)
    assert lm.router is not None
    other = IDS.clone()
    other[:, 9:] = 100
    torch.testing.assert_close(logits(lm, IDS)[:, :9], logits(lm, other)[:, :9], atol=1e-4, rtol=1e-4)
    state = lm.router.start()
    with lm.mole.gated(state):
        lm.backbone(input_ids=IDS)
    chosen = torch.stack(state.logits).argmax(-1)
    assert chosen.min() == 0 and chosen.max() == 1


@torch.inference_mode()
@pytest.mark.parametrize("kind", KINDS, ids=name)
@pytest.mark.parametrize("merged", [False, True])
def test_a_sequence_is_spoken_under_the_gates_of_its_prompt(kind: RouterSettings, merged: bool) -> None:
    """Through transformers or a merged copy: what the fused layers compute, with the router deciding."""
    lm = routed(kind)
    assert lm.router is not None
    assert isinstance(lm.decoder, FoldedDecoder) == (kind.granularity == "segment")
    if not merged:
        tiny.decode_through(lm, folded=False)
    rows = lm.speech_embedding.token(torch.randint(0, 20, (1, 8), generator=torch.Generator().manual_seed(3)))
    embeddings = torch.cat([lm.embed_text(IDS[:1, :6]), rows], 1)
    prompt = (torch.arange(14) <= 6)[None]
    with lm.mole.gated(lm.router.start(prompt)):
        full = lm.backbone.base_model(inputs_embeds=embeddings).last_hidden_state
    state = lm.begin(embeddings[:, :6], embeddings[:, 6:7])
    steps = [lm.hidden(piece, state) for piece in embeddings[:, 7:].split([1, 2, 4], 1)]
    torch.testing.assert_close(torch.cat(steps, 1), full[:, 7:], atol=2e-4, rtol=1e-3)


@torch.inference_mode()
@pytest.mark.parametrize("kind", SEGMENT, ids=name)
def test_one_marker_in_a_long_prompt_can_decide(kind: RouterSettings) -> None:
    """The maximum over the prompt carries it, however many other positions there are."""
    lm = routed(kind)
    assert lm.router is not None
    reader = lm.router.readers[0]
    marker = torch.full((1, 1, 32), -1.0)
    marker[..., 0] = 30.0
    reader.enter.weight.zero_()
    reader.enter.weight[0, 0], reader.enter.bias[:] = 2.0, -8.0
    reader.leave.weight.zero_()
    reader.leave.weight[1::2, reader.leave.in_features // 2] = 100.0
    plain = torch.rand(1, 600, 32)
    for at in (0, 300, 600):
        marked = torch.cat([plain[:, :at], marker, plain[:, at:]], 1)
        assert lm.router.decide(marked)[..., 1].min() > 1 > lm.router.decide(plain)[..., 1].max()


@pytest.mark.parametrize("kind", KINDS, ids=name)
def test_only_the_router_learns_and_it_can(kind: RouterSettings) -> None:
    lm = routed(kind)
    assert lm.router is not None
    lm.router.requires_grad_(True)
    with torch.no_grad():
        for reader in lm.router.readers:  # inclined towards speech: wrong, and able to change its mind
            reader.leave.weight.mul_(0.1)
            reader.leave.bias.copy_(torch.tensor([-0.5, 0.5]).repeat(2)[: len(reader.leave.bias)])
        wanted = tiny.llama()(input_ids=IDS).logits
    torch.nn.functional.mse_loss(logits(lm, IDS), wanted).backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in lm.router.parameters())  # what the mixture says teaches the gates
    assert not any(p.grad is not None for n, p in lm.named_parameters() if not n.startswith("router."))
    adam = torch.optim.Adam(lm.router.parameters(), lr=0.05)
    for _ in range(40):
        adam.zero_grad()
        state = lm.router.start()
        with lm.mole.gated(state):
            lm.backbone(input_ids=IDS)
        decided = torch.stack(state.logits).flatten(0, -2)
        torch.nn.functional.cross_entropy(decided, torch.zeros(len(decided), dtype=torch.long)).backward()
        adam.step()
    assert decided.softmax(-1)[:, 0].min() > 0.9
    assert torch.allclose(logits(lm, IDS), wanted, atol=0.1)


def test_a_router_is_loaded_for_its_experts_only(tmp_path: Path) -> None:
    lm = routed(KINDS[0])
    assert lm.router is not None
    lm.router.save(tmp_path / "router", {})
    again = Router.load(tmp_path / "router", lm.mole, lm.speech_embedding.config.backbone)
    x = torch.randn(1, 9, 32)
    with torch.inference_mode():
        assert torch.equal(again.decide(x), lm.router.decide(x))
    with pytest.raises(VoicegraftError, match=r"was trained on backbone .* train a router for this one"):
        Router.load(tmp_path / "router", lm.mole, "another")
    lm.mole.names = (*lm.mole.names, "song")
    with pytest.raises(VoicegraftError, match=r"chooses among 2 experts .* this model has 3 \(text, speech, song\)"):
        Router.load(tmp_path / "router", lm.mole, lm.speech_embedding.config.backbone)
    (tmp_path / "router" / "weights.safetensors").write_bytes(b"\0" * 50)
    with pytest.raises(VoicegraftError, match="damaged"):
        Router.load(tmp_path / "router", lm.mole, lm.speech_embedding.config.backbone)


@torch.inference_mode()
@pytest.mark.parametrize("kind", [KINDS[0], *(k for k in KINDS if k.hardness == "soft")], ids=name)
def test_a_router_need_not_know_the_expert_that_hears(kind: RouterSettings, tmp_path: Path) -> None:
    """It chooses as before among the others, and is not asked where there is audio."""
    two = routed(kind)
    two.router.save(tmp_path / "router", {})  # type: ignore[union-attr]
    three = tiny.speech_lm(tiny.llama(), listening=Expert.load(tiny.lora(tiny.llama(), tmp_path, "listening")))
    three.router = Router.load(tmp_path / "router", three.mole, three.speech_embedding.config.backbone)
    torch.testing.assert_close(logits(three, IDS), logits(two, IDS))
    x = two.embed_text(IDS[:1])
    spoken = [lm.hidden(x[:, 7:], lm.begin(x[:, :6], x[:, 6:7])) for lm in (two, three)]
    torch.testing.assert_close(*spoken, atol=2e-4, rtol=1e-3)
    assert three.writing(hears=True) == "listening"


@torch.inference_mode()
def test_few_mixtures_are_kept_and_experts_alone_always() -> None:
    lm = tiny.fused()
    decoder = FoldedDecoder(lm.mole)
    alone = [decoder.folded(expert) for expert in lm.mole.names]
    mixtures = [decoder.folded(torch.tensor([share, 1 - share])) for share in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)]
    assert [decoder.folded(expert) for expert in lm.mole.names] == alone
    assert decoder.folded(torch.tensor([0.6, 0.4])) is mixtures[-1]
    assert decoder.folded(torch.tensor([0.1, 0.9])) is not mixtures[0]
