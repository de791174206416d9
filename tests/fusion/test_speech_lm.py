"""Nothing is forgotten, and the ways to compute the same thing agree, for every backbone family."""

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from tests import tiny
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.batches import collate
from voicegraft.data.sequences import speech_sequence
from voicegraft.fusion.backbone import backbone_fingerprint, load_backbone
from voicegraft.fusion.decoders.folded import FoldedDecoder, FoldedModel
from voicegraft.fusion.decoders.transformers import TransformersDecoder
from voicegraft.fusion.experts import LISTENING, Expert
from voicegraft.fusion.speech_lm import SpeechLM

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
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 64, "rope_theta": 10_000.0}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama3": ("Llama", {"rope_parameters": LLAMA3}),
    "llama tied": ("Llama", {"tie_word_embeddings": True}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "mistral with a window": ("Mistral", {"sliding_window": 6}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),  # as Qwen2.5 up to 3B
    "qwen3": ("Qwen3", {"head_dim": 8}),
    "gemma2": ("Gemma2", {"head_dim": 8, "sliding_window": 6}),
    "gemma3": ("Gemma3", {"head_dim": 8, "sliding_window": 6}),
    "phi": ("Phi", {"num_key_value_heads": 4}),
    "phi3": ("Phi3", {}),
}
MERGED = ("llama", "mistral")  # families that are folded


def random_backbone(family: str, **sizes: int) -> PreTrainedModel:
    name, changes = FAMILIES[family]
    config_cls = getattr(transformers, "Gemma3TextConfig" if name == "Gemma3" else f"{name}Config")
    torch.manual_seed(1)
    model = getattr(transformers, f"{name}ForCausalLM")(config_cls(**{**SIZES, **changes, **sizes}))
    with torch.no_grad():  # far from the small weights of a fresh model: differences show
        for parameter in model.parameters():
            parameter.mul_(2.0) if parameter.ndim >= 2 else None
    return model.eval()


class Case:
    """An untouched backbone, and its twin with two experts on it whose weights are not zero, beside the one that writes."""

    def __init__(self, family: str, folder: Path) -> None:
        self.untouched = random_backbone(family)
        self.listening = tiny.lora(self.untouched, folder, LISTENING)
        self.lm = tiny.speech_lm(copy.deepcopy(self.untouched), listening=Expert.load(self.listening))


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(request.param, tmp_path_factory.mktemp("listening"))


IDS = torch.randint(2, 258, (2, 14), generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_text_logits_are_the_backbones_bit_for_bit(case: Case) -> None:
    expected = case.untouched(input_ids=IDS).logits
    assert torch.equal(case.lm.text_logits(IDS), expected)
    # The experts are there, and on: otherwise this proves nothing.
    expert = case.lm.hidden(case.lm.embed_text(IDS))
    assert not torch.allclose(expert, case.untouched.base_model(IDS).last_hidden_state, atol=1e-2)
    with case.lm.mole.gated(case.lm.writing(hears=True)):
        hears = case.lm.backbone(IDS).logits
    assert not torch.allclose(hears, expected, atol=1e-2)
    theirs = PeftModel.from_pretrained(copy.deepcopy(case.untouched), str(case.listening)).eval()
    assert torch.equal(hears, theirs(IDS).logits)  # alone, it is PEFT's
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
        with case.lm.mole.gated(case.lm.writing()):
            torch.manual_seed(0)
            assert torch.equal(case.lm.backbone.generate(IDS, do_sample=sampled, **options), expected)


@torch.inference_mode()
def test_embeddings_handed_in_are_treated_as_the_models_own(case: Case) -> None:
    """Whatever its family scales them by."""
    with case.lm.mole.gated(None):
        hidden = case.lm.backbone.base_model(inputs_embeds=case.lm.embed_text(IDS)).last_hidden_state
    torch.testing.assert_close(hidden, case.untouched.base_model(IDS).last_hidden_state)


def in_steps(lm: SpeechLM, embeddings: Tensor, *steps: int) -> Tensor:
    """Hidden states ``[1, T, D]`` from the marker at position 6 on, decoded step by step after a prompt."""
    state = lm.begin(embeddings[:, :6], embeddings[:, 6:7])
    return torch.cat([lm.hidden(piece, state) for piece in embeddings[:, 7:].split(list(steps), 1)], 1)


@torch.inference_mode()
def test_cached_steps_with_the_expert_are_the_full_forward(case: Case) -> None:
    rows = case.lm.speech_embedding.token(torch.randint(0, 20, (1, 14), generator=torch.Generator().manual_seed(3)))
    embeddings = torch.cat([case.lm.embed_text(IDS[:1, :6]), rows], 1)
    full = case.lm.hidden(embeddings)
    steps = in_steps(tiny.decode_through(copy.deepcopy(case.lm), folded=False), embeddings, *[1] * 5, 3, 1, 4)
    torch.testing.assert_close(steps, full[:, 7:], atol=2e-4, rtol=1e-3)


@torch.inference_mode()
def test_the_fingerprint_is_the_backbones_own(case: Case) -> None:
    own = backbone_fingerprint(case.untouched)
    assert case.lm.speech_embedding.config.backbone == own == backbone_fingerprint(case.lm.backbone)
    other = copy.deepcopy(case.untouched)
    next(p for n, p in other.named_parameters() if "layers.1" in n)[0] += 1.0
    assert backbone_fingerprint(other) != own


@torch.inference_mode()
def test_a_merged_copy_agrees_and_leaves_text_alone(case: Case) -> None:
    lm = copy.deepcopy(case.lm)
    family = case.untouched.config.model_type
    config = case.untouched.config
    plain = not getattr(config, "sliding_window", None) and config.rope_parameters.get("rope_type") == "default"
    assert isinstance(lm.decoder, FoldedDecoder if family in MERGED and plain else TransformersDecoder)
    assert torch.equal(lm.text_logits(IDS), case.untouched(input_ids=IDS).logits)
    embeddings = lm.embed_text(IDS[:1])
    full = case.lm.hidden(embeddings)
    torch.testing.assert_close(in_steps(lm, embeddings, 1, 1, 4, 1), full[:, 7:], atol=2e-4, rtol=1e-3)


@torch.inference_mode()
def test_the_fast_copy_outgrows_its_buffers() -> None:
    lm = tiny.fused()
    embeddings = torch.randn(1, 700, 32, generator=torch.Generator().manual_seed(0))
    full = lm.hidden(embeddings)
    steps = in_steps(lm, embeddings, 243, 1, 1, 10, 1, 260, 177)
    torch.testing.assert_close(steps, full[:, 7:], atol=2e-4, rtol=1e-3)


def test_scaled_rotary_embeddings_are_left_to_transformers() -> None:
    assert not FoldedModel.supports(random_backbone("llama3").base_model)
    assert FoldedModel.supports(tiny.llama().base_model)


def test_text_begins_with_the_begin_token_if_there_is_one() -> None:
    lm = tiny.fused()
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
    tiny.trained_expert(backbone).save(folder / "expert", {"recipe": "test"})
    return folder


@torch.inference_mode()
def test_peft_loads_the_expert_and_hears_the_same(saved: Path) -> None:
    ours = SpeechLM.load(saved / "backbone", saved / "expert")
    theirs = PeftModel.from_pretrained(tiny.llama(), str(saved / "expert" / "speech")).eval()
    embeddings = ours.embed_text(IDS)
    hidden = theirs.get_base_model().base_model(inputs_embeds=embeddings).last_hidden_state
    assert torch.equal(ours.hidden(embeddings), hidden)
    assert not torch.allclose(hidden, tiny.llama().base_model(inputs_embeds=embeddings).last_hidden_state, atol=1e-3)


def test_what_is_loaded_is_what_was_saved_in_half_precision(saved: Path) -> None:
    before = tiny.trained_expert(load_backbone(saved / "backbone")[0])
    after = SpeechLM.load(saved / "backbone", saved / "expert")
    assert not after.training and not any(p.requires_grad for p in after.parameters())
    rows = after.speech_embedding.state_dict()
    assert all(
        torch.equal(rows[name], tensor.half().float()) for name, tensor in before.speech_embedding.state_dict().items()
    )
    for name, layer in after.mole.layers():
        lora = before.backbone.get_submodule(name)
        for own, matrix in ((layer.down, lora.lora_A["speech"].weight), (layer.up, lora.lora_B["speech"].weight)):
            assert torch.equal(own, matrix.half().float()), name


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
        with pytest.raises(VoicegraftError, match=r"there is no such folder|found no config\.json there"):
            load_backbone(Path(name))


def test_pickled_backbones_are_refused(tmp_path: Path) -> None:
    tiny.write_backbone(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(tiny.llama().state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(VoicegraftError, match=r"expected config\.json, safetensors weights"):
        load_backbone(tmp_path)


def test_an_expert_of_another_text_tokenizer_is_refused(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved / "backbone", tmp_path / "other")
    tokenizer = tiny.byte_tokenizer()
    tokenizer.add_tokens(["zebra"])
    tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(VoicegraftError, match=r"trained with the text tokenizer .* use the text tokenizer it was"):
        SpeechLM.load(tmp_path / "other", saved / "expert")


@pytest.mark.parametrize("damage", ["truncated", "tampered"])
def test_a_damaged_expert_is_refused(saved: Path, tmp_path: Path, damage: str) -> None:
    shutil.copytree(saved / "expert", tmp_path / "expert")
    weights = tmp_path / "expert" / "speech" / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data[: len(data) // 2] if damage == "truncated" else data)
    with pytest.raises(VoicegraftError, match=r"is damaged: its digest differs from expert\.json"):
        SpeechLM.load(saved / "backbone", tmp_path / "expert")


def test_weights_of_another_rank_than_the_configuration_says_are_refused(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved / "expert", tmp_path / "expert")
    tiny.edit_json(tmp_path / "expert" / "speech" / "adapter_config.json", r=8)
    with pytest.raises(VoicegraftError, match=r"says rank 8, but its weights have rank 4"):
        SpeechLM.load(saved / "backbone", tmp_path / "expert")


# Where the expert acts


@torch.inference_mode()
@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("activated", [False, True])
def test_the_expert_acts_in_speaking_where_it_did_in_training(activated: bool, merged: bool) -> None:
    """On the whole sequence, or from the voice's marker on, while the text before keeps the backbone's keys and values."""
    training = tiny.trained_expert(tiny.llama(), activated=activated)
    lm = tiny.fused(activated=activated)
    tiny.decode_through(lm, folded=merged)
    text = "We see."
    units = tiny.LEXICON.units(text)
    assert units is not None
    sequence = speech_sequence(tiny.VOCABULARY, lm.text_ids(text), tiny.words_said(text), "ben", units)
    batch = collate([sequence], torch.device("cpu"))
    expected, _ = training(batch)
    embeddings = lm.speech_embedding.inputs(batch, lm.embed_text(batch["text"].clamp(min=0)))
    begin = len(lm.text_ids(text))
    state = lm.begin(embeddings[:, :begin], embeddings[:, begin : begin + 1])
    steps = [lm.hidden(piece, state) for piece in embeddings[:, begin + 1 :].split(3, 1)]
    later = {name: values[:, begin + 1 :] for name, values in batch.items()}
    ours, _ = lm.speech_embedding.loss(torch.cat(steps, 1), later)
    torch.testing.assert_close(ours, expected, atol=2e-3, rtol=2e-3)  # the expert was saved in half precision
    prompt = lm.embed_text(batch["text"][:, :begin])
    with lm.mole.gated(None if activated else "speech"):
        keys = DynamicCache()
        lm.backbone.base_model(inputs_embeds=prompt, past_key_values=keys, use_cache=True)
    wanted = keys.layers[1].keys
    keys = state.buffer[1, 0][None, :, :begin] if merged else state.cache.layers[1].keys[:, :, :begin]
    torch.testing.assert_close(keys, wanted, atol=1e-4, rtol=1e-4)
