"""Stock transformers and PEFT say what this program says, for every backbone family."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from tests import tiny
from tests.fusion.test_speech_lm import FAMILIES, IDS, random_backbone
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.batches import collate
from voicegraft.data.sequences import speech_sequence
from voicegraft.export.extended_vocabulary import token_names
from voicegraft.export.huggingface import export_hf
from voicegraft.fusion.speech_lm import SpeechLM
from voicegraft.tokenizers.vocabulary import END_OF_UNIT, SPEECH_BOS

TEXT = "We see the owl."


class Exported:
    """An exported checkpoint, loaded by the stock classes, beside what it was made from."""

    def __init__(self, family: str, folder: Path, **options: Any) -> None:
        self.untouched = random_backbone(family)
        training = tiny.trained_expert(copy.deepcopy(self.untouched), **options)
        with torch.no_grad():  # codes that differ, and an utterance that does not end
            training.speech_embedding.head.weight.normal_(std=0.5, generator=torch.Generator().manual_seed(7))
            training.speech_embedding.head.weight[END_OF_UNIT] = 0.0
        training.save(folder / "expert", {})
        self.lm = tiny.speech_lm(copy.deepcopy(self.untouched), **options)
        self.lm.speech_embedding.load_state_dict(training.speech_embedding.state_dict())
        export_hf(copy.deepcopy(self.lm), {"speech": folder / "expert" / "speech"}, folder / "out", "# A card")
        self.folder = folder / "out"
        self.ids: dict[str, Any] = json.loads((self.folder / "speech.json").read_text())
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        self.text_model = AutoModelForCausalLM.from_pretrained(self.folder, dtype="auto").eval()
        base = AutoModelForCausalLM.from_pretrained(self.folder, dtype="auto")
        self.model = PeftModel.from_pretrained(base, str(self.folder / "speech")).eval()

    def expected(self, hidden: Tensor) -> Tensor:
        """Our speech logits, as the exported model finishes its own."""
        logits, cap = self.lm.speech_embedding.logits(hidden), self.ids["logit_softcap"]
        return logits if cap is None else torch.tanh(logits / cap) * cap


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(request.param, tmp_path_factory.mktemp("export"), layout="plain")


def ours_greedily(lm: SpeechLM, count: int) -> list[int]:
    """Speech ids of codes, the likeliest at each step."""
    row = lm.speech_embedding.token.weight
    text = lm.embed_text(torch.tensor([lm.text_ids(TEXT)]))
    state = lm.begin(text, row[lm.vocabulary.voice_id("ben")][None, None])
    token, said = SPEECH_BOS, []
    while len(said) < count:
        logits = lm.speech_embedding.logits(lm.hidden(row[token][None, None], state)[:, -1])[0]
        token = lm.vocabulary.first_code + int(logits[lm.vocabulary.first_code :].argmax())
        said.append(token)
    return said


@torch.inference_mode()
def test_text_is_the_backbones_bit_for_bit(case: Exported) -> None:
    expected = case.untouched(input_ids=IDS).logits
    assert torch.equal(case.text_model(input_ids=IDS).logits[..., :258], expected)
    with case.model.disable_adapter():
        assert torch.equal(case.model(input_ids=IDS).logits[..., :258], expected)


@torch.inference_mode()
def test_generated_text_is_the_backbones(case: Exported) -> None:
    options: dict[str, Any] = {"max_new_tokens": 20, "attention_mask": torch.ones_like(IDS), "do_sample": False}
    assert torch.equal(case.text_model.generate(IDS, **options), case.untouched.generate(IDS, **options))


@torch.inference_mode()
def test_ids_of_plain_speech_give_the_same_logits(case: Exported) -> None:
    first, rows = case.ids["first_id"], case.lm.speech_embedding
    text = case.lm.text_ids(TEXT)
    spoken = [rows.config.vocabulary.voice_id("ben"), SPEECH_BOS, *range(60, 75)]
    embeddings = torch.cat([case.lm.embed_text(torch.tensor([text])), rows.token(torch.tensor([spoken]))], 1)
    logits = case.model(input_ids=torch.tensor([[*text, *(first + i for i in spoken)]])).logits
    expected = case.expected(case.lm.hidden(embeddings))
    torch.testing.assert_close(logits[..., first:], expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert logits.shape[-1] == first + rows.config.vocabulary.size


@torch.inference_mode()
def test_stock_generate_speaks_the_same_codes(case: Exported) -> None:
    first, ids = case.ids["first_code"], case.ids
    expected = [ids["first_id"] + token for token in ours_greedily(case.lm, 50)]
    assert len(set(expected)) > 3  # not one sound for ever
    prompt = torch.tensor([[*case.lm.text_ids(TEXT), ids["voices"]["ben"], ids["say"]]])
    codes = list(range(first, first + ids["num_codes"]))
    said = case.model.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        generation_config=GenerationConfig.from_pretrained(case.folder / "speech"),
        prefix_allowed_tokens_fn=lambda batch, before: codes,
        max_new_tokens=50,
    )
    assert said[0, prompt.shape[1] :].tolist() == expected


def test_the_tokenizer_names_every_speech_token(case: Exported) -> None:
    names = token_names(case.lm.vocabulary)
    first = case.ids["first_id"]
    assert case.tokenizer.convert_ids_to_tokens(range(first, first + len(names))) == names
    written = case.tokenizer(f"{TEXT}<|voice:ben|><|say|><|code_17|><|advance|>", add_special_tokens=False)["input_ids"]
    speech = [case.ids["voices"]["ben"], case.ids["say"], case.ids["first_code"] + 17, case.ids["advance"]]
    assert written == [*case.lm.word_ids(TEXT), *speech]


def test_the_adapter_is_one_that_servers_take(case: Exported) -> None:
    config = json.loads((case.folder / "speech" / "adapter_config.json").read_text())
    assert not config["modules_to_save"] and config["bias"] == "none" and not config["use_dora"]
    assert config["base_model_name_or_path"] == "out"  # no path of this machine
    names = load_file(case.folder / "speech" / "adapter_model.safetensors")
    assert all(name.startswith("base_model.model.model.layers.") for name in names)
    assert {path.name for path in case.folder.iterdir()} >= {"README.md", "generation_config.json", "tokenizer.json"}
    assert not (case.folder / "speech_inputs.safetensors").exists()  # ids say everything


# What needs more than ids


@pytest.fixture(scope="module")
def guided(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported("qwen2", tmp_path_factory.mktemp("guided"), layout="guided")


@torch.inference_mode()
def test_guided_speech_is_the_same_by_embeddings(guided: Exported) -> None:
    lm = guided.lm
    units = tiny.LEXICON.units("We see.")
    assert units is not None
    codes, counts = np.arange(len(units)) % 27, np.ones(len(units), int)
    sequence = speech_sequence(
        tiny.VOCABULARY, lm.text_ids("We see."), tiny.words_said("We see."), "ben", units, codes, counts
    )
    batch = collate([sequence], torch.device("cpu"))
    inputs = lm.speech_embedding.inputs(batch, lm.embed_text(batch["text"].clamp(min=0)))
    logits = guided.model(inputs_embeds=inputs).logits[..., guided.ids["first_id"] :]
    side = load_file(guided.folder / "speech_inputs.safetensors")
    torch.testing.assert_close(
        logits + side["head.bias"], lm.speech_embedding.logits(lm.hidden(inputs)), rtol=1e-4, atol=1e-4
    )


def test_the_rows_of_a_guided_expert_can_be_put_together_again(guided: Exported) -> None:
    first = guided.ids["first_id"]
    base = guided.model.get_base_model()
    rows = load_file(guided.folder / "speech_inputs.safetensors")
    rows["token.weight"] = base.get_input_embeddings()(torch.arange(first, first + guided.lm.vocabulary.size))
    rows["head.weight"] = base.get_output_embeddings().weight[first:]
    for name, tensor in guided.lm.speech_embedding.state_dict().items():
        torch.testing.assert_close(rows[name], tensor)
    assert guided.ids["driven_by"] == "inputs_embeds"


# Backbones with more rows than tokens, or fewer


@torch.inference_mode()
@pytest.mark.parametrize("more_tokens", [0, 5])
def test_rows_without_a_token_and_tokens_without_a_row(tmp_path: Path, more_tokens: int) -> None:
    lm = tiny.speech_lm(random_backbone("llama"), layout="plain")
    if more_tokens:
        lm.tokenizer.add_tokens([f"<new {i}>" for i in range(more_tokens)])
    else:
        lm.backbone.resize_token_embeddings(263)
    tiny.trained_expert(tiny.llama(), layout="plain").save(tmp_path / "expert", {})
    export_hf(lm, {"speech": tmp_path / "expert" / "speech"}, tmp_path / "out")
    tokenizer, ids = (
        AutoTokenizer.from_pretrained(tmp_path / "out"),
        json.loads((tmp_path / "out/speech.json").read_text()),
    )
    assert ids["first_id"] == 263 == tokenizer.convert_tokens_to_ids("<|say|>")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.vocab_size == len(tokenizer)


# Refusals


def refused(tmp_path: Path, lm: SpeechLM, message: str, files: Sequence[str] = ()) -> None:
    for name in files:
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_text("precious")
    tiny.trained_expert(tiny.llama()).save(tmp_path / "expert", {})
    with pytest.raises(VoicegraftError, match=message):
        export_hf(lm, {"speech": tmp_path / "expert" / "speech"}, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").glob("*")] == list(files)


def test_an_expert_of_the_lower_layers_is_refused(tmp_path: Path) -> None:
    refused(
        tmp_path, tiny.fused(layout="plain", num_layers=1), r"lives in the lower layers .* train one with num_layers=0"
    )


def test_an_activated_expert_is_refused(tmp_path: Path) -> None:
    lm = tiny.fused(layout="plain", activated=True)
    refused(tmp_path, lm, r"acts from the voice's marker on .* train one with activated=false")


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    refused(tmp_path, tiny.fused(), "holds other files and would be lost", files=["thesis.txt"])


def test_a_backbone_that_has_the_tokens_already_is_refused(tmp_path: Path) -> None:
    lm = tiny.fused()
    lm.tokenizer.add_tokens(["<|say|>"])
    refused(tmp_path, lm, r"has a token <\|say\|> already")


def test_logits_made_in_a_way_that_rows_cannot_follow_are_refused(tmp_path: Path) -> None:
    lm = tiny.fused()
    lm.backbone.register_forward_hook(lambda module, inputs, output: type(output)(logits=output.logits**3))
    refused(tmp_path, lm, "by more than a factor or a soft cap")
