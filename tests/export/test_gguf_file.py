"""What is written is the merged model; llama.cpp says with it what this program says (marker gguf)."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader, LlamaFileType, TokenType
from gguf.quants import dequantize
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests import tiny
from tests.fusion.test_speech_lm import FAMILIES, random_backbone
from voicegraft.core.errors import VoicegraftError
from voicegraft.export import gguf_file as module
from voicegraft.export.gguf_file import ARCHITECTURES, export_gguf
from voicegraft.fusion.speech_lm import SpeechLM
from voicegraft.tokenizers.vocabulary import SPEECH_BOS

TEXT = "We see the owl's 12 houses, there."
SUPPORTED = [name for name, (family, _) in FAMILIES.items() if family.lower() in ARCHITECTURES]
ENDLESS = [name for name in SUPPORTED if not FAMILIES[name][1].get("sliding_window")]


def merging_tokenizer() -> PreTrainedTokenizerFast:
    """The byte tokenizer with three merges: more tokens than the tiny backbones have rows."""
    vocabulary = tiny.byte_tokenizer().get_vocab()
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the")]
    vocabulary |= {a + b: len(vocabulary) + i for i, (a, b) in enumerate(merges)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def plain_lm(family: str, tokenizer: PreTrainedTokenizerFast | None = None) -> SpeechLM:
    lm = tiny.speech_lm(random_backbone(family), layout="plain")
    lm.tokenizer = tokenizer or merging_tokenizer()
    with torch.no_grad():  # logits far apart: tokens vary, and rounding does not choose among them
        lm.speech_embedding.token.weight.normal_(std=1.0, generator=torch.Generator().manual_seed(1))
        lm.speech_embedding.head.weight.normal_(std=0.5, generator=torch.Generator().manual_seed(101))
    return lm


def field(reader: GGUFReader, key: str) -> object:
    return reader.get_field(key).contents()


def tensors(reader: GGUFReader) -> dict[str, np.ndarray]:
    return {t.name: dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors}


@pytest.mark.parametrize("family", SUPPORTED)
def test_the_file_holds_the_merged_weights(family: str, tmp_path: Path) -> None:
    lm = plain_lm(family)
    rows, config = copy.deepcopy(lm.speech_embedding), lm.backbone.config
    merged = tiny.trained_expert(random_backbone(family), layout="plain").peft_model.merge_and_unload()  # by PEFT
    assert export_gguf(lm, tmp_path / "m.gguf", "f32") == []
    reader = GGUFReader(tmp_path / "m.gguf")
    found = tensors(reader)
    arch = ARCHITECTURES[config.model_type].lower()
    assert field(reader, "general.architecture") == arch
    wanted = {"embedding_length": 32, "block_count": 2, "feed_forward_length": 48, "attention.head_count": 4}
    wanted |= {"attention.head_count_kv": 2, "attention.key_length": 8, "rope.freq_base": 10_000.0}
    wanted |= {"context_length": 6 if "window" in family else 256, "vocab_size": 261 + rows.config.vocabulary.size}
    assert {key: field(reader, f"{arch}.{key}") for key in wanted} == wanted
    # From half the head to neighbours, where llama.cpp turns these.
    turned = [i + half for i in range(4) for half in (0, 4)] if arch == "llama" else list(range(8))
    layer = merged.base_model.layers[1]
    for name, linear, heads in (("q", layer.self_attn.q_proj, 4), ("k", layer.self_attn.k_proj, 2)):
        expected = linear.weight.detach()[[8 * head + i for head in range(heads) for i in turned]]
        np.testing.assert_allclose(found[f"blk.1.attn_{name}.weight"], expected, rtol=2e-2, atol=2e-3)  # LoRA in halves
    np.testing.assert_allclose(
        found["blk.1.ffn_down.weight"], layer.mlp.down_proj.weight.detach(), rtol=2e-2, atol=2e-3
    )
    for name, before, appended in (
        ("token_embd", merged.get_input_embeddings(), rows.token),
        ("output", merged.get_output_embeddings(), rows.head),
    ):
        np.testing.assert_array_equal(found[f"{name}.weight"][:258], before.weight.detach())
        np.testing.assert_array_equal(found[f"{name}.weight"][261:], appended.weight.detach())
    assert ("rope_freqs.weight" in found) == (family == "llama3")
    assert ("blk.0.attn_q.bias" in found) == (arch == "qwen2") and ("blk.0.attn_q_norm.weight" in found) == (
        arch == "qwen3"
    )


@pytest.mark.parametrize("dtype", ["f32", "f16", "q8_0"])
def test_types_hold_what_they_can(dtype: module.GgufType, tmp_path: Path) -> None:
    exact = plain_lm("llama")
    export_gguf(copy.deepcopy(exact), tmp_path / "exact.gguf", "f32")
    export_gguf(exact, tmp_path / "m.gguf", dtype)
    reader = GGUFReader(tmp_path / "m.gguf")
    kinds = {t.name: t.tensor_type.name for t in reader.tensors}
    assert kinds["blk.0.attn_q.weight"] == dtype.upper() and kinds["blk.0.attn_norm.weight"] == "F32"
    assert kinds["blk.0.ffn_down.weight"] == (
        "F16" if dtype == "q8_0" else dtype.upper()
    )  # 48 columns: no whole blocks
    known = {"f32": LlamaFileType.ALL_F32, "f16": LlamaFileType.MOSTLY_F16, "q8_0": LlamaFileType.MOSTLY_Q8_0}
    assert field(reader, "general.file_type") == known[dtype]
    expected = tensors(GGUFReader(tmp_path / "exact.gguf"))
    for name, value in tensors(reader).items():
        assert np.abs(value - expected[name]).max() <= 0.01 * np.abs(expected[name]).max(), name


def test_the_tokenizer_is_in_the_file(tmp_path: Path) -> None:
    lm = plain_lm("llama")
    export_gguf(lm, tmp_path / "m.gguf")
    reader = GGUFReader(tmp_path / "m.gguf")
    names, kinds = field(reader, "tokenizer.ggml.tokens"), field(reader, "tokenizer.ggml.token_type")
    assert field(reader, "tokenizer.ggml.model") == "gpt2" and field(reader, "tokenizer.ggml.pre") == "gpt-2"
    assert isinstance(names, list) and isinstance(kinds, list)
    assert names == lm.tokenizer.convert_ids_to_tokens(range(len(names)))
    advance = names.index("<|advance|>")
    assert kinds[advance] == TokenType.CONTROL and kinds[names.index("th")] == TokenType.NORMAL
    assert field(reader, "tokenizer.ggml.eos_token_id") == advance == field(reader, "voicegraft.advance")
    assert field(reader, "tokenizer.ggml.merges") == ["t h", "th e", "Ġ the"]
    assert field(reader, "voicegraft.voice.ben") == names.index("<|voice:ben|>")


def test_a_tokenizer_that_is_unknown_to_llama_cpp_is_left_out_or_told(tmp_path: Path) -> None:
    notes = export_gguf(plain_lm("llama", tiny.byte_tokenizer()), tmp_path / "m.gguf")  # has no merges
    assert (
        field(GGUFReader(tmp_path / "m.gguf"), "tokenizer.ggml.model") == "none"
        and "give llama.cpp token ids" in notes[0]
    )
    other = merging_tokenizer()
    cuts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    other.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    notes = export_gguf(plain_lm("llama", other), tmp_path / "m.gguf")
    assert field(GGUFReader(tmp_path / "m.gguf"), "tokenizer.ggml.pre") == "default" and "into other tokens" in notes[0]


@pytest.mark.parametrize(("digits", "pre"), [(r"\p{N}{1,3}", "llama-bpe"), (r"\p{N}", "qwen2")])
def test_cuts_of_the_big_families_are_known(digits: str, pre: str) -> None:
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
        + digits
        + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    cuts = [{"type": "Split", "pattern": {"Regex": pattern}}, {"type": "ByteLevel", "use_regex": False}]
    raw = {"pre_tokenizer": {"type": "Sequence", "pretokenizers": cuts}}
    assert module._pre(json.loads(json.dumps(raw))) == pre


# Refusals


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("llama", {"layout": "guided"}, r"has a guided layout: .* layout=plain .* or export it with --format hf"),
        ("llama", {"layout": "plain", "frames_per_step": 2}, r"has 2 frames per step"),
        ("llama", {"layout": "plain", "activated": True}, r"acts from the voice's marker on"),
        ("gemma2", {"layout": "plain"}, r"GGUF export knows llama, mistral, qwen2, qwen3, this backbone is a gemma2"),
        ("phi3", {"layout": "plain"}, r"this backbone is a phi3: use --format hf"),
    ],
)
def test_what_llama_cpp_cannot_hold_is_refused(
    family: str, options: dict[str, bool], message: str, tmp_path: Path
) -> None:
    with pytest.raises(VoicegraftError, match=message):
        export_gguf(tiny.speech_lm(random_backbone(family), **options), tmp_path / "m.gguf")
    assert not list(tmp_path.iterdir())


def test_positions_of_an_unknown_kind_are_refused(tmp_path: Path) -> None:
    lm = plain_lm("qwen2")
    lm.backbone.config.rope_parameters["rope_type"] = "yarn"
    with pytest.raises(VoicegraftError, match="does not know rotary positions of type yarn"):
        export_gguf(lm, tmp_path / "m.gguf")


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(VoicegraftError, match="does not exist; make it or name another"):
        export_gguf(plain_lm("llama"), tmp_path / "nowhere" / "m.gguf")


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "gguf", None)
    with pytest.raises(VoicegraftError, match=r"pip install 'voicegraft\[gguf\]'"):
        export_gguf(plain_lm("llama"), tmp_path / "m.gguf")


# llama.cpp itself


@torch.inference_mode()
def ours_greedily(lm: SpeechLM, prompt: Sequence[int], first: int, count: int) -> list[int]:
    """The likeliest of all tokens, text and speech, at each step: ids of the grown vocabulary."""
    rows = lm.speech_embedding
    text_head = lm.backbone.get_output_embeddings()

    def embedded(token: int) -> torch.Tensor:
        row = rows.token.weight[token - first] if token >= first else lm.embed_text(torch.tensor(token))
        return row[None, None]

    inputs = [embedded(token) for token in prompt]
    text = [embedding for token, embedding in zip(prompt, inputs, strict=True) if token < first]
    state = lm.begin(torch.cat(text, 1), inputs[len(text)])
    hidden = lm.hidden(torch.cat(inputs[len(text) + 1 :], 1), state)[0, -1]
    said: list[int] = []
    while len(said) < count:
        texts, speech = text_head(hidden), rows.logits(hidden)
        said.append(first + int(speech.argmax()) if speech.max() > texts.max() else int(texts.argmax()))
        hidden = lm.hidden(embedded(said[-1]), state)[0, -1]
    return said


@pytest.mark.gguf
@pytest.mark.parametrize("family", ENDLESS)
def test_llama_cpp_says_the_same(family: str, tmp_path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp", reason="needs llama-cpp-python: pip install 'voicegraft[llama-cpp]'")
    lm = plain_lm(family)
    first = len(lm.tokenizer)
    lm.backbone.resize_token_embeddings(first)  # a row for every piece that llama.cpp may cut
    export_gguf(copy.deepcopy(lm), tmp_path / "m.gguf", "f32")
    model = llama_cpp.Llama(
        str(tmp_path / "m.gguf"),
        n_ctx=256,
        n_threads=1,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
        logits_all=True,
        verbose=False,
    )
    prompt = model.tokenize(f"{TEXT}<|voice:ben|><|say|>".encode(), special=True)
    speech = [first + lm.vocabulary.voice_id("ben"), first + SPEECH_BOS]
    assert prompt == [*lm.text_ids(TEXT), *speech]  # cut by llama.cpp as by the backbone's tokenizer
    expected = ours_greedily(lm, prompt, first, 200)
    assert len(set(expected)) > 12  # not one sound for ever
    said: list[int] = []
    new = list(prompt)
    while len(said) < 200:
        model.eval(new)
        said.append(int(model.scores[model.n_tokens - 1].argmax()))
        new = said[-1:]
    assert said == expected
