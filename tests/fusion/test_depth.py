"""Speech may leave the backbone after its first layers: the same as a model that has no more."""

import copy

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from tests import tiny
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.batches import collate
from voicegraft.data.sequences import speech_sequence
from voicegraft.fusion.depth import decoder_layers, lower_layers
from voicegraft.fusion.experts import LoraSettings, adapter_state, attach_lora


def backbones() -> list[PreTrainedModel]:
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    return [
        Qwen2ForCausalLM(Qwen2Config(**sizes, intermediate_size=48, num_key_value_heads=2)).eval(),
        GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=32, n_layer=3, n_head=4)).eval(),
        OPTForCausalLM(OPTConfig(**sizes, ffn_dim=48, word_embed_proj_dim=32)).eval(),
    ]


@pytest.mark.parametrize("backbone", backbones(), ids=lambda model: model.config.model_type)
@torch.inference_mode()
def test_the_lower_layers_are_a_model_of_these_layers(backbone: PreTrainedModel) -> None:
    ids = torch.arange(12)[None]
    whole = backbone(ids, output_hidden_states=True)
    smaller = copy.deepcopy(backbone.config)
    smaller.num_hidden_layers = 2
    small = type(backbone)(smaller).eval()
    small.load_state_dict(backbone.state_dict(), strict=False)
    assert torch.equal(lower_layers(backbone, 2)(ids).last_hidden_state, small.base_model(ids).last_hidden_state)
    assert torch.equal(backbone(ids).logits, whole.logits)  # the backbone itself has all its layers
    assert lower_layers(backbone) is backbone.base_model
    assert len(decoder_layers(backbone)) == 3 == backbone.config.num_hidden_layers


def test_more_layers_than_there_are_is_refused() -> None:
    with pytest.raises(VoicegraftError, match="asks for 3 layers, this backbone has 2"):
        lower_layers(tiny.llama(), 3)


@pytest.mark.parametrize("targets", [("all-linear",), ("q_proj", "down_proj")])
def test_a_lora_of_the_lower_layers_is_in_no_others(targets: tuple[str, ...]) -> None:
    state = adapter_state(
        attach_lora(tiny.llama(), LoraSettings(2, 2, targets=targets), "speech", num_layers=1), "speech"
    )
    assert all(".layers.0." in name for name in state)
    assert len(state) == 2 * (7 if targets == ("all-linear",) else 2)


@torch.inference_mode()
@pytest.mark.parametrize("folded", [False, True])
def test_decoders_run_the_layers_that_training_did(folded: bool) -> None:
    lm = tiny.decode_through(tiny.fused(num_layers=1), folded)
    words = tiny.words_said("The owl sees.")
    sequence = speech_sequence(
        lm.vocabulary, lm.text_ids("The owl sees."), words, "ann", tiny.LEXICON.units("The owl sees.") or []
    )
    batch = collate([sequence], torch.device("cpu"))
    embedded = lm.speech_embedding.inputs(batch, lm.embed_text(batch["text"].clamp(min=0)))
    whole = lm.hidden(embedded)
    state = lm.decoder.start("speech")
    steps = [lm.hidden(part, state) for part in embedded.split(5, 1)]
    assert torch.allclose(torch.cat(steps, 1), whole, atol=1e-5)
    deep = tiny.fused()
    assert not torch.allclose(deep.hidden(embedded), whole, atol=1e-2)
    text = torch.tensor([lm.text_ids("Hello")])
    assert torch.equal(lm.text_logits(text), tiny.llama()(text).logits)
