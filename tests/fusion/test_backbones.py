"""Any causal LM of transformers: saved, loaded by the call that takes a name, taught to speak, and unchanged as text."""

import json
import shutil
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DynamicCache,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from tests import tiny
from tests.fusion.test_lora_training import CPU, PAIRS, sequences
from tests.fusion.test_speech_lm import FAMILIES, IDS, SIZES, random_backbone
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.batches import collate
from voicegraft.data.chat import answered_questions, collate_answers, filler_id
from voicegraft.fusion.backbone import BackboneSettings, backbone_fingerprint, load_backbone
from voicegraft.fusion.decoders.folded import FoldedDecoder
from voicegraft.fusion.experts import LoraSettings
from voicegraft.fusion.lora_training import SpeechExpertTraining, TextExpertTraining
from voicegraft.fusion.speech_lm import SpeechLM
from voicegraft.inference.writer import Writer, WritingOptions
from voicegraft.tokenizers.vocabulary import SPEECH_BOS

SETTINGS = {
    "float32": BackboneSettings(),
    "bfloat16": BackboneSettings("bfloat16", gradient_checkpointing=True),
    "4bit": BackboneSettings("float32", "4bit"),
    "4bit in bfloat16": BackboneSettings("bfloat16", "4bit", gradient_checkpointing=True),
}
WIDE = {"hidden_size": 64, "intermediate_size": 64, "head_dim": 16}  # blocks of four-bit weights are 64 long
TEMPLATE = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[assistant]"


@pytest.fixture(params=SETTINGS)
def settings(request: pytest.FixtureRequest) -> BackboneSettings:
    chosen = SETTINGS[request.param]
    if chosen.quantization:
        pytest.importorskip("bitsandbytes")
    return chosen


@pytest.fixture(scope="module", params=FAMILIES)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone and an expert that was trained on it in float32."""
    folder = tmp_path_factory.mktemp("family")
    made = random_backbone(request.param, **WIDE)
    made.save_pretrained(folder / "backbone")
    tiny.byte_tokenizer().save_pretrained(folder / "backbone")
    backbone, _ = load_backbone(str(folder / "backbone"))
    assert backbone_fingerprint(backbone) == backbone_fingerprint(made)
    training = tiny.trained_expert(backbone)
    training.save(folder / "expert", {})
    return folder


Held = Callable[[BackboneSettings], tuple[PreTrainedModel, SpeechLM]]


@pytest.fixture(scope="module")
def held(saved: Path) -> Held:
    """Of settings the backbone as it is then held, untouched and with the expert on it; loaded once."""

    def load(settings: BackboneSettings) -> tuple[PreTrainedModel, SpeechLM]:
        untouched, _ = load_backbone(str(saved / "backbone"), settings)
        return untouched, SpeechLM.load(str(saved / "backbone"), saved / "expert", settings=settings)

    return cache(load)


def test_text_is_cut_as_the_saved_tokenizer_cuts_it(saved: Path) -> None:
    """Whatever tokenizer class the family has: it would add tokens, and cut text another way."""
    _, tokenizer = load_backbone(str(saved / "backbone"))
    own = tiny.byte_tokenizer()
    assert tokenizer.get_vocab() == own.get_vocab()
    for text in ("Hello there, it's 25 o'clock!\nYes? I've 1234.", " two  spaces ", "naïve"):
        assert tokenizer(text).input_ids == own(text).input_ids


@torch.inference_mode()
def test_text_with_experts_on_it_is_the_backbones_bit_for_bit(held: Held, settings: BackboneSettings) -> None:
    untouched, lm = held(settings)
    assert torch.equal(lm.text_logits(IDS), untouched(input_ids=IDS).logits)
    ours, theirs = DynamicCache(config=untouched.config), DynamicCache(config=untouched.config)
    for piece in (IDS[:, :5], *IDS[:, 5:8].split(1, 1)):
        logits = lm.text_logits(piece, past_key_values=ours, use_cache=True)
        assert torch.equal(logits, untouched(input_ids=piece, past_key_values=theirs, use_cache=True).logits)
    expert = lm.hidden(lm.embed_text(IDS))
    assert relative(expert, untouched.base_model(IDS).last_hidden_state) > 0.1  # it is there, or this proves nothing


def test_one_step_of_training_moves_the_expert_and_the_rows_only(saved: Path, settings: BackboneSettings) -> None:
    backbone, _ = load_backbone(str(saved / "backbone"), settings)
    training = tiny.trained_expert(backbone).train()
    before = {name: tensor.clone() for name, tensor in training.state_dict().items()}
    adam = torch.optim.Adam([p for p in training.parameters() if p.requires_grad], lr=1e-2)
    loss, _ = training(collate(sequences(training)[:2], CPU))
    loss.backward()
    adam.step()
    moved = {name for name, tensor in training.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {n.startswith("speech_embedding.") for n in moved} == {True, False}
    assert all(".lora_" in n or n.startswith("speech_embedding.") for n in moved)
    assert len([n for n in moved if ".lora_A." in n]) == len([n for n in before if ".lora_A." in n])
    assert all(before[n].dtype == torch.float32 for n in moved)  # what is trained is kept exactly


@torch.inference_mode()
def test_speaking_from_a_cache_is_the_full_forward(held: Held, settings: BackboneSettings) -> None:
    lm = held(settings)[1]
    text = lm.embed_text(torch.tensor([lm.text_ids("We see.")]))
    marker = lm.speech_embedding.token(torch.tensor([[lm.vocabulary.voice_id("ben")]]))
    state, token = lm.begin(text, marker), SPEECH_BOS
    rows, steps = [], []
    for _ in range(20):
        rows.append(lm.speech_embedding.token(torch.tensor([[token]])))
        steps.append(lm.hidden(rows[-1], state))
        token = lm.vocabulary.first_code + int(
            lm.speech_embedding.logits(steps[-1])[0, -1, lm.vocabulary.first_code :].argmax()
        )
    full = lm.hidden(torch.cat([text, marker, *rows], 1))[:, -20:]
    assert full.dtype == lm.backbone.dtype
    assert relative(torch.cat(steps, 1), full) < (1e-3 if settings.dtype == "float32" else 0.05)


@torch.inference_mode()
def test_however_it_is_held_it_is_the_same_checkpoint(held: Held, settings: BackboneSettings) -> None:
    assert backbone_fingerprint(held(settings)[0]) == backbone_fingerprint(held(BackboneSettings())[0])


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.float() - b.float()).norm() / b.float().norm())


# Memory


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    tiny.write_backbone(folder)
    return folder


@pytest.mark.parametrize("activated", [False, True])
def test_layers_computed_again_give_the_same_gradients_in_any_thread(llama: Path, activated: bool) -> None:
    """On a GPU the backward pass runs in a thread of its own, which knows no context variables."""
    found = []
    for checkpointing in (False, True):
        backbone, _ = load_backbone(llama, BackboneSettings(gradient_checkpointing=checkpointing))
        training = tiny.trained_expert(backbone, activated=activated).train()
        loss, _ = training(collate(sequences(training), CPU))
        thread = threading.Thread(target=loss.backward)
        thread.start()
        thread.join()
        found.append({n: p.grad for n, p in training.named_parameters() if p.requires_grad})
    assert found[1].keys() == found[0].keys()
    for name, gradient in found[0].items():
        assert gradient is not None and found[1][name] is not None, name
        torch.testing.assert_close(found[1][name], gradient)


def test_a_checkpoint_in_shards_is_the_same_checkpoint(llama: Path, tmp_path: Path) -> None:
    backbone, tokenizer = load_backbone(llama)
    backbone.save_pretrained(tmp_path, max_shard_size="20KB")
    tokenizer.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert backbone_fingerprint(load_backbone(tmp_path)[0]) == backbone_fingerprint(backbone)


def test_auto_is_the_type_that_was_saved(llama: Path, tmp_path: Path) -> None:
    backbone, tokenizer = load_backbone(llama)
    backbone.to(torch.bfloat16).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert load_backbone(tmp_path, BackboneSettings("auto"))[0].dtype == torch.bfloat16
    assert backbone_fingerprint(load_backbone(tmp_path)[0]) != backbone_fingerprint(load_backbone(llama)[0])


def test_a_small_model_in_half_precision_is_merged_too(llama: Path, tmp_path: Path) -> None:
    tiny.trained_expert(load_backbone(llama)[0]).save(tmp_path, {})
    steps = []
    for dtype, merged in (("float32", False), ("bfloat16", False), ("bfloat16", True)):
        lm = SpeechLM.load(llama, tmp_path, settings=BackboneSettings(dtype))
        assert isinstance(lm.decoder, FoldedDecoder)
        tiny.decode_through(lm, folded=merged)
        text = lm.embed_text(IDS[:1])
        with torch.inference_mode():
            state = lm.begin(text[:, :6], text[:, 6:7])
            steps.append(torch.cat([lm.hidden(piece, state) for piece in text[:, 7:].split(3, 1)], 1))
    exact, unmerged, merged_steps = steps
    assert merged_steps.dtype == unmerged.dtype == torch.bfloat16
    assert relative(merged_steps, exact) < 2 * relative(unmerged, exact)


def test_nothing_is_folded_into_four_bits(llama: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    tiny.trained_expert(load_backbone(llama)[0]).save(tmp_path, {})
    lm = SpeechLM.load(llama, tmp_path, settings=SETTINGS["4bit"])
    assert not isinstance(lm.decoder, FoldedDecoder)


def test_four_bits_without_their_package_are_a_clear_error(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicegraft.fusion.backbone.find_spec", lambda name: None)
    with pytest.raises(VoicegraftError, match=r"pip install 'voicegraft\[quantization\]'"):
        load_backbone(llama, SETTINGS["4bit"])


# Tokenizers


@pytest.mark.parametrize("template", [None, TEMPLATE])
@pytest.mark.parametrize("lacks", [(), ("pad_token",), ("bos_token",), ("pad_token", "bos_token")])
def test_special_tokens_and_a_chat_template_are_not_needed(
    llama: Path, tmp_path: Path, lacks: tuple[str, ...], template: str | None
) -> None:
    shutil.copytree(llama, tmp_path / "backbone")
    tokenizer = tiny.byte_tokenizer()
    for name in lacks:
        setattr(tokenizer, name, None)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(tmp_path / "backbone")
    backbone, tokenizer = load_backbone(tmp_path / "backbone")
    assert [getattr(tokenizer, name) for name in lacks] == [None] * len(lacks)
    batch = collate_answers(answered_questions(tokenizer, PAIRS), filler_id(tokenizer), CPU)
    assert torch.isfinite(TextExpertTraining(backbone, tokenizer, tiny.LORA)(batch)[0])
    backbone, _ = load_backbone(tmp_path / "backbone")
    training = SpeechExpertTraining(backbone, tokenizer, tiny.VOCABULARY, "s", LoraSettings(rank=2))
    assert torch.isfinite(training(collate(sequences(training), CPU))[0])
    training.save(tmp_path, {})
    lm = SpeechLM.load(tmp_path / "backbone", tmp_path)
    assert Writer(lm).start("Is it you?", WritingOptions(max_tokens=3)).report.num_prompt > 5


def test_a_tokenizer_without_an_end_cannot_learn_to_answer() -> None:
    tokenizer = tiny.byte_tokenizer()
    tokenizer.eos_token, tokenizer.chat_template = None, TEMPLATE
    with pytest.raises(VoicegraftError, match="names no token that ends a text; set eos_token"):
        answered_questions(tokenizer, PAIRS)


# What is not a backbone


def without(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


def config_with(**changes: object) -> Callable[[Path], None]:
    return lambda folder: tiny.edit_json(folder / "config.json", **changes)


def weights_with(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


UP = "model.layers.1.mlp.up_proj.weight"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: without(f, "config.json"), "found no config.json there"),
    "config is not JSON": (lambda f: (f / "config.json").write_text("{"), "cannot read .*config.json"),
    "config is a list": (lambda f: (f / "config.json").write_text("[]"), "cannot read .*config.json"),
    "config of wrong types": (config_with(hidden_size="wide"), "cannot read .*config.json"),
    "unknown architecture": (config_with(model_type="weird"), "no architecture 'weird'.*upgrade transformers"),
    "code of its own": (
        config_with(model_type="weird", auto_map={"AutoConfig": "own.Config"}),
        r"needs program code of its own \(auto_map\), which is never run",
    ),
    "classifier": (config_with(architectures=["LlamaForSequenceClassification"]), "is a LlamaForSeq.*take a causal LM"),
    "no weights": (lambda f: without(f, "model.safetensors"), "expected config.json, safetensors weights"),
    "truncated": (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 20), "is not a causal LM that transformers"),
    "a weight is missing": (weights_with(lambda t: t.pop(UP)), f"is incomplete: 1 weights are missing .{UP}"),
    "the head is missing": (weights_with(lambda t: t.pop("lm_head.weight")), "is incomplete: .*lm_head.weight"),
    "a weight of another shape": (
        weights_with(lambda t: t.update({UP: torch.zeros(3, 3)})),
        "is not a causal LM that transformers can load",
    ),
    "no tokenizer": (lambda f: without(f, "tokenizer.json", "tokenizer_config.json"), "has no tokenizer"),
    "tokenizer of an unreadable kind": (
        lambda f: (without(f, "tokenizer.json"), (f / "tokenizer.model").write_bytes(b"?")),
        "the tokenizer in .* needs another package: pip install",
    ),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_spoilt_backbone_is_a_clear_error(llama: Path, tmp_path: Path, what: str) -> None:
    damage, message = DAMAGES[what]
    shutil.copytree(llama, tmp_path / "spoilt")
    damage(tmp_path / "spoilt")
    with pytest.raises(VoicegraftError, match=message) as caught:
        load_backbone(tmp_path / "spoilt")
    assert "\n" not in str(caught.value)


def test_code_that_comes_with_a_known_architecture_is_ignored(llama: Path, tmp_path: Path) -> None:
    shutil.copytree(llama, tmp_path / "backbone")
    (tmp_path / "backbone" / "own.py").write_text("raise SystemExit('was run')\n")
    auto_map = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    tiny.edit_json(tmp_path / "backbone" / "config.json", auto_map=auto_map)
    assert type(load_backbone(tmp_path / "backbone")[0]) is type(tiny.llama())


def test_models_that_are_no_causal_lm_of_text_are_refused(tmp_path: Path) -> None:
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**small, "image_size": 28, "patch_size": 14}
    text = {k: v for k, v in SIZES.items() if k != "head_dim"}
    models = {
        "BertForMaskedLM, not a causal LM": BertForMaskedLM(BertConfig(vocab_size=258, **small)),
        "t5, not a causal LM": T5ForConditionalGeneration(
            T5Config(vocab_size=258, d_model=16, d_ff=16, d_kv=8, num_layers=1, num_heads=2)
        ),
        "gemma3, which reads more than text": Gemma3ForConditionalGeneration(
            Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
        ),
    }
    for message, model in models.items():
        folder = tmp_path / type(model).__name__
        model.save_pretrained(folder)
        tiny.byte_tokenizer().save_pretrained(folder)
        assert json.loads((folder / "config.json").read_text())["architectures"] == [type(model).__name__]
        with pytest.raises(VoicegraftError, match=message):
            load_backbone(folder)
