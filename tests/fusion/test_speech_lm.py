"""Nothing is forgotten, and the ways to compute the same thing agree, for every backbone family."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from peft import PeftModel
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from tests import tiny
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.batches import collate
from voicegraft.data.sequences import IGNORE, SpeechSequence, speech_sequence
from voicegraft.fusion.speech_lm import LoraSettings, SpeechLM, backbone_fingerprint, load_backbone
from voicegraft.fusion.step_decoder import StepDecoder

SIZES: dict[str, Any] = {
    "vocab_size": 258,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "mistral with a window": ("Mistral", {"sliding_window": 6}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {"head_dim": 8}),
    "gemma2": ("Gemma2", {"head_dim": 8, "sliding_window": 6}),
    "gemma3": ("Gemma3", {"head_dim": 8, "sliding_window": 6}),
    "phi": ("Phi", {"num_key_value_heads": 4}),
    "phi3": ("Phi3", {}),
}
MERGED = ("llama", "mistral")  # families with a StepDecoder


def random_backbone(family: str) -> PreTrainedModel:
    name, changes = FAMILIES[family]
    config_cls = getattr(transformers, "Gemma3TextConfig" if name == "Gemma3" else f"{name}Config")
    torch.manual_seed(1)
    model = getattr(transformers, f"{name}ForCausalLM")(config_cls(**{**SIZES, **changes}))
    with torch.no_grad():  # far from the small weights of a fresh model: differences show
        for parameter in model.parameters():
            parameter.mul_(2.0) if parameter.ndim >= 2 else None
    return model.eval()


class Case:
    """An untouched backbone, and its twin with an expert on it whose weights are not zero."""

    def __init__(self, family: str) -> None:
        self.untouched = random_backbone(family)
        self.lm = tiny.speech_lm(copy.deepcopy(self.untouched))


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


IDS = torch.randint(2, 258, (2, 14), generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_text_logits_are_the_backbones_bit_for_bit(case: Case) -> None:
    expected = case.untouched(input_ids=IDS).logits
    assert torch.equal(case.lm.text_logits(IDS), expected)
    # The expert is there, and on: otherwise this proves nothing.
    expert = case.lm.hidden(case.lm.embed_text(IDS))
    assert not torch.allclose(expert, case.untouched.base_model(IDS).last_hidden_state, atol=1e-2)
    assert torch.equal(case.lm.text_logits(IDS), expected)  # and leaves nothing behind


@torch.inference_mode()
def test_cached_decoding_of_text_is_the_backbones_bit_for_bit(case: Case) -> None:
    ours, theirs = DynamicCache(config=case.untouched.config), DynamicCache(config=case.untouched.config)
    for piece in (IDS[:, :5], *IDS[:, 5:].split(1, dim=1)):
        logits = case.lm.text_logits(piece, past_key_values=ours, use_cache=True)
        assert torch.equal(logits, case.untouched(input_ids=piece, past_key_values=theirs, use_cache=True).logits)


@torch.inference_mode()
@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_batches_of_text_are_the_backbones_bit_for_bit(case: Case, side: str) -> None:
    mask = torch.ones_like(IDS)
    mask[0, : 4 if side == "left" else None] = 0 if side == "left" else 1
    if side == "right":
        mask[0, -4:] = 0
    expected = case.untouched(input_ids=IDS, attention_mask=mask).logits
    assert torch.equal(case.lm.text_logits(IDS, attention_mask=mask), expected)


@torch.inference_mode()
def test_generated_text_is_the_backbones(case: Case) -> None:
    options = {"max_new_tokens": 8, "min_new_tokens": 8, "attention_mask": torch.ones_like(IDS)}
    for sampled in (False, True):
        torch.manual_seed(0)
        expected = case.untouched.generate(IDS, do_sample=sampled, **options)
        with case.lm.peft_model.disable_adapter():
            torch.manual_seed(0)
            assert torch.equal(case.lm.backbone.generate(IDS, do_sample=sampled, **options), expected)


@torch.inference_mode()
def test_a_fresh_expert_hears_text_as_the_backbone_does(case: Case) -> None:
    """Embeddings handed in are treated as the model treats its own, whatever its family scales them by."""
    with case.lm.peft_model.disable_adapter():
        hidden = case.lm.hidden(case.lm.embed_text(IDS))
    torch.testing.assert_close(hidden, case.untouched.base_model(IDS).last_hidden_state)


@torch.inference_mode()
def test_cached_steps_with_the_expert_are_the_full_forward(case: Case) -> None:
    rows = case.lm.rows.token(torch.randint(0, 20, (1, 6), generator=torch.Generator().manual_seed(3)))
    embeddings = torch.cat([case.lm.embed_text(IDS[:1]), rows], 1)
    full = case.lm.hidden(embeddings)
    cache = case.lm.start_cache()
    pieces = [
        case.lm.hidden(piece, cache) for piece in (embeddings[:, :7], *embeddings[:, 7:].split([1] * 5 + [3, 1, 4], 1))
    ]
    torch.testing.assert_close(torch.cat(pieces, 1), full, atol=2e-4, rtol=1e-3)


@torch.inference_mode()
def test_the_fingerprint_is_the_backbones_own(case: Case) -> None:
    own = backbone_fingerprint(case.untouched)
    assert case.lm.rows.config.backbone == own == backbone_fingerprint(case.lm.backbone)
    other = copy.deepcopy(case.untouched)
    next(p for n, p in other.named_parameters() if "layers.1" in n)[0] += 1.0
    assert backbone_fingerprint(other) != own


@torch.inference_mode()
def test_a_merged_copy_agrees_and_leaves_text_alone(case: Case) -> None:
    lm = copy.deepcopy(case.lm)
    lm.merge_for_speed()
    family = case.untouched.config.model_type
    plain = family in MERGED and not getattr(case.untouched.config, "sliding_window", None)
    assert (lm.fast is not None) == plain
    assert torch.equal(lm.text_logits(IDS), case.untouched(input_ids=IDS).logits)
    embeddings = lm.embed_text(IDS[:1])
    full, cache = case.lm.hidden(embeddings), lm.start_cache()
    pieces = [lm.hidden(piece, cache) for piece in (embeddings[:, :5], *embeddings[:, 5:].split([1, 1, 4, 1, 2], 1))]
    torch.testing.assert_close(torch.cat(pieces, 1), full, atol=2e-4, rtol=1e-3)


@torch.inference_mode()
def test_the_fast_copy_outgrows_its_buffers() -> None:
    lm = tiny.speech_lm(tiny.llama())
    embeddings = torch.randn(1, 700, 32, generator=torch.Generator().manual_seed(0))
    full = lm.hidden(embeddings)
    lm.merge_for_speed()
    cache = lm.start_cache()
    pieces = [lm.hidden(piece, cache) for piece in embeddings.split([250, 1, 1, 10, 1, 260, 177], 1)]
    torch.testing.assert_close(torch.cat(pieces, 1), full, atol=2e-4, rtol=1e-3)


def test_scaled_rotary_embeddings_are_left_to_transformers() -> None:
    scaled = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaled |= {"original_max_position_embeddings": 64, "rope_theta": 10_000.0}
    config = transformers.LlamaConfig(**SIZES, rope_scaling=scaled)
    assert not StepDecoder.supports(transformers.LlamaModel(config))
    assert StepDecoder.supports(tiny.llama().base_model)


# Batches and losses


def sequences(lm: SpeechLM) -> list[SpeechSequence]:
    made = []
    for number, text in enumerate(tiny.SENTENCES):
        units = tiny.LEXICON.units(text)
        assert units is not None
        said: tuple[Any, ...] = ()
        if number % 2:
            counts = np.arange(len(units)) % 3 + 1
            said = (np.arange(counts.sum()) % 27, counts)
        made.append(speech_sequence(lm.vocabulary, lm.text_ids(text), tiny.words_said(lm, text), "ben", units, *said))
    return made


@torch.inference_mode()
def test_a_batch_loses_what_its_single_sequences_lose(case: Case) -> None:
    made = sequences(case.lm)
    together, parts = case.lm(collate(made, torch.device("cpu")))
    singles = [case.lm(collate([s], torch.device("cpu")))[0] for s in made]
    weights = torch.tensor([float((s.target != IGNORE).sum()) for s in made])
    torch.testing.assert_close(together, (torch.stack(singles) * weights).sum() / weights.sum(), atol=1e-4, rtol=1e-4)
    assert parts.keys() == {"think", "speak", "think_accuracy"} and all(torch.isfinite(p) for p in parts.values())


def test_training_moves_the_expert_and_the_rows_and_never_the_backbone() -> None:
    lm = tiny.speech_lm(tiny.llama()).train()
    moving = {n for n, p in lm.named_parameters() if p.requires_grad}
    assert moving and all(".lora_" in n or n.startswith("rows.") for n in moving)
    before = backbone_fingerprint(lm.backbone)
    adam = torch.optim.Adam([p for p in lm.parameters() if p.requires_grad], lr=1e-2)
    batch, losses = collate(sequences(lm), torch.device("cpu")), []
    for _ in range(12):
        adam.zero_grad()
        loss, _ = lm(batch)
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert backbone_fingerprint(lm.backbone) == before
    assert torch.equal(lm.eval().text_logits(IDS), tiny.llama()(input_ids=IDS).logits)


def test_text_begins_with_the_begin_token_if_there_is_one() -> None:
    lm = tiny.speech_lm(tiny.llama())
    ids = lm.text_ids("The owl, now!")
    assert ids[0] == lm.tokenizer.bos_token_id and ids[1:] == lm.word_ids("The owl, now!")
    assert lm.tokenizer.decode(ids[1:]) == "The owl, now!"
    lm.tokenizer.bos_token = None
    assert lm.text_ids("The owl, now!") == ids[1:]


# On disk


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    tiny.write_backbone(folder / "backbone")
    backbone, _ = load_backbone(folder / "backbone")
    tiny.speech_lm(backbone).save_expert(folder / "expert", {"recipe": "test"})
    return folder


@torch.inference_mode()
def test_peft_loads_the_expert_and_hears_the_same(saved: Path) -> None:
    ours = SpeechLM.load(saved / "backbone", saved / "expert")
    theirs = PeftModel.from_pretrained(tiny.llama(), str(saved / "expert" / "speech")).eval()
    embeddings = ours.embed_text(IDS)
    hidden = theirs.get_base_model().base_model(inputs_embeds=embeddings).last_hidden_state
    assert torch.equal(ours.hidden(embeddings), hidden)
    assert not torch.allclose(hidden, tiny.llama().base_model(inputs_embeds=embeddings).last_hidden_state, atol=1e-3)


@torch.inference_mode()
def test_what_is_loaded_is_what_was_saved_in_half_precision(saved: Path) -> None:
    backbone, _ = load_backbone(saved / "backbone")
    before, after = tiny.speech_lm(backbone), SpeechLM.load(saved / "backbone", saved / "expert")
    assert not after.training and not any(p.requires_grad for p in after.parameters())
    loaded = after.state_dict()
    for name, tensor in before.state_dict().items():
        expected: Tensor = tensor if ".lora_" not in name and not name.startswith("rows.") else tensor.half().float()
        assert torch.equal(loaded[name], expected), name


@torch.inference_mode()
def test_training_can_go_on_from_an_expert(saved: Path, tmp_path: Path) -> None:
    backbone, tokenizer = load_backbone(saved / "backbone")
    torch.manual_seed(8)
    lm = SpeechLM.new(backbone, tokenizer, tiny.VOCABULARY, "s", tiny.LORA)
    lm.take_expert(saved / "expert")
    wanted = SpeechLM.load(saved / "backbone", saved / "expert").state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in lm.state_dict().items())
    wider = SpeechLM.new(load_backbone(saved / "backbone")[0], tokenizer, tiny.VOCABULARY, "s", LoraSettings(rank=5))
    with pytest.raises(VoicegraftError, match="another rank"):
        wider.take_expert(saved / "expert")
    other = SpeechLM.new(load_backbone(saved / "backbone")[0], tokenizer, tiny.VOCABULARY, "other", tiny.LORA)
    with pytest.raises(VoicegraftError, match="another vocabulary"):
        other.take_expert(saved / "expert")


def test_an_expert_of_another_backbone_is_refused(saved: Path, tmp_path: Path) -> None:
    other = tiny.llama()
    with torch.no_grad():
        other.base_model.norm.weight[0] = 2.0
    other.save_pretrained(tmp_path / "other")
    tiny.byte_tokenizer().save_pretrained(tmp_path / "other")
    with pytest.raises(VoicegraftError, match=r"was trained on backbone .* use the backbone it was trained on"):
        SpeechLM.load(tmp_path / "other", saved / "expert")


def test_a_backbone_that_is_not_there_is_not_looked_for_elsewhere(tmp_path: Path) -> None:
    for name in ("nobody/nothing", str(tmp_path)):
        with pytest.raises(VoicegraftError, match=r"found no config\.json there; check the path"):
            load_backbone(Path(name))


def test_pickled_backbones_are_refused(tmp_path: Path) -> None:
    tiny.write_backbone(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(tiny.llama().state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(VoicegraftError, match=r"expected config\.json, safetensors weights"):
        load_backbone(tmp_path)
