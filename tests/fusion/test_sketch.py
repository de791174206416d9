"""The same model in another precision is known again, another model is not."""

import copy
import json
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from tests import tiny
from voicegraft.core.errors import VoicegraftError
from voicegraft.fusion.backbone import load_backbone
from voicegraft.fusion.sketch import SKETCH, Sketch
from voicegraft.fusion.speech_lm import SpeechLM


@pytest.fixture(scope="module")
def backbone() -> PreTrainedModel:
    torch.manual_seed(0)
    model = tiny.llama()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def in_four_bits(model: PreTrainedModel) -> PreTrainedModel:
    """Blocks of 32 values with a step and an offset each, as Q4_1 has them; vectors stay."""
    rounded = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in rounded.parameters():
            if parameter.ndim == 2 and parameter.numel() % 32 == 0:
                blocks = parameter.view(-1, 32)
                low, high = blocks.amin(1, keepdim=True), blocks.amax(1, keepdim=True)
                step = (high - low) / 15
                parameter.copy_(((blocks - low) / step).round().mul(step).add(low).view_as(parameter))
    return rounded


def test_other_precisions_are_the_same_model(backbone: PreTrainedModel) -> None:
    sketch = Sketch.of(backbone)
    for other in (backbone.bfloat16(), in_four_bits(backbone.float()), in_four_bits(backbone.float()).half()):
        assert sketch.problem(Sketch.of(other)) == ""
    backbone.float()


def test_other_models_are_not(backbone: PreTrainedModel) -> None:
    sketch = Sketch.of(backbone)
    tuned, noisy = copy.deepcopy(backbone), copy.deepcopy(backbone)
    with torch.no_grad():
        tuned.model.norm.weight.mul_(1.05)
        for parameter in noisy.parameters():
            if parameter.ndim == 2:
                parameter.add_(torch.randn_like(parameter) * parameter.std())
    assert "model.norm.weight differs" in sketch.problem(Sketch.of(tuned))
    assert "are like these to 0." in sketch.problem(Sketch.of(noisy))
    smaller = copy.deepcopy(backbone)
    del smaller.model.layers[1]
    assert "names or shapes" in sketch.problem(Sketch.of(smaller))


def test_an_expert_takes_its_backbone_in_another_precision_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny.write_backbone(tmp_path / "own")
    own, tokenizer = load_backbone(tmp_path / "own")
    tiny.trained_expert(own).save(tmp_path / "expert", {})
    other, _ = load_backbone(tmp_path / "own")
    in_four_bits(other).save_pretrained(tmp_path / "rounded")
    tokenizer.save_pretrained(tmp_path / "rounded")
    SpeechLM.load(tmp_path / "own", tmp_path / "expert")
    assert not caplog.records
    SpeechLM.load(tmp_path / "rounded", tmp_path / "expert")
    assert "rounded is the backbone of this pack in another precision, or hardly changed" in caplog.text
    with torch.no_grad():
        other.model.norm.weight.mul_(1.1)
    other.save_pretrained(tmp_path / "tuned")
    tokenizer.save_pretrained(tmp_path / "tuned")
    with pytest.raises(VoicegraftError, match="which no quantisation changes"):
        SpeechLM.load(tmp_path / "tuned", tmp_path / "expert")


def test_a_damaged_sketch_is_told(backbone: PreTrainedModel, tmp_path: Path) -> None:
    assert Sketch.load(tmp_path) is None
    Sketch.of(backbone).save(tmp_path)
    assert Sketch.load(tmp_path) == Sketch.of(backbone)
    (tmp_path / SKETCH).write_text(json.dumps({"shapes": {}})[:-1])
    with pytest.raises(VoicegraftError, match="cannot read"):
        Sketch.load(tmp_path)
