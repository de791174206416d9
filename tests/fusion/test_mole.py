"""The fused layer against PEFT, against merged weights, and against the untouched backbone, for every backbone family."""

import copy
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from tests.fusion.test_speech_lm import FAMILIES, random_backbone
from voicegraft.core.errors import VoicegraftError
from voicegraft.fusion.experts import Expert
from voicegraft.fusion.mole import MoLE, MoleLinear

IDS = torch.randint(2, 258, (3, 12), generator=torch.Generator().manual_seed(0))
SETTINGS: dict[str, dict[str, Any]] = {  # experts of unlike ranks, scales and targets
    "one": {"r": 4, "lora_alpha": 4, "target_modules": "all-linear"},
    "two": {"r": 3, "lora_alpha": 5, "target_modules": "all-linear", "use_rslora": True},
    "three": {"r": 2, "lora_alpha": 7, "target_modules": r".*self_attn\.(q_proj|qkv_proj)"},
}


def make_expert(backbone: PreTrainedModel, folder: Path, name: str, **changes: Any) -> Path:
    """A PEFT adapter with weights that matter, trained and saved by PEFT as far as anybody can tell."""
    settings = {**SETTINGS[name], **changes}
    torch.manual_seed(sorted(SETTINGS).index(name))
    model = get_peft_model(copy.deepcopy(backbone), LoraConfig(task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if ".lora_" in parameter_name:
                parameter.normal_(std=0.3)
    model.save_pretrained(str(folder / name))
    return folder / name


class Case:
    def __init__(self, family: str, folder: Path) -> None:
        self.untouched = random_backbone(family)
        self.folders = {name: make_expert(self.untouched, folder, name) for name in SETTINGS}
        self.fused = copy.deepcopy(self.untouched)
        self.mole = MoLE(self.fused, {"text": None} | {name: Expert.load(f) for name, f in self.folders.items()})

    def by_peft(self, name: str) -> Tensor:
        model = PeftModel.from_pretrained(copy.deepcopy(self.untouched), str(self.folders[name]))
        return model.eval()(input_ids=IDS).logits

    def by_merging(self, gates: Mapping[str, float]) -> Tensor:
        """The same mixture with the weights of every layer summed up beforehand."""
        model = copy.deepcopy(self.untouched)
        for name, weight in gates.items():
            for module, part in Expert.load(self.folders[name]).layers.items():
                model.get_submodule(module).weight.data += weight * part.scale * part.up @ part.down
        return model(input_ids=IDS).logits


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    with torch.inference_mode(False):
        return Case(request.param, tmp_path_factory.mktemp("experts"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case("llama", tmp_path_factory.mktemp("llama"))


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, atol=2e-4 * float(b.abs().max()))


@torch.no_grad()
def test_text_is_the_untouched_backbones_bit_for_bit(case: Case) -> None:
    expected = case.untouched(input_ids=IDS).logits
    assert torch.equal(case.fused(input_ids=IDS).logits, expected)
    for gates in (None, "text", torch.tensor([1.0, 0, 0, 0])):
        with case.mole.gated(gates):
            assert torch.equal(case.fused(input_ids=IDS).logits, expected), gates
    with case.mole.gated("one"):  # the experts are there, or this proves nothing
        assert not torch.allclose(case.fused(input_ids=IDS).logits, expected, atol=1e-2)
    assert torch.equal(case.fused(input_ids=IDS).logits, expected), "a gate outlived its block"


@torch.no_grad()
def test_text_is_decoded_as_by_the_untouched_backbone(case: Case) -> None:
    """Prefill and cached steps, while the experts of another stream have been used in between."""
    caches = {model: DynamicCache(config=model.config) for model in (case.untouched, case.fused)}
    for part in (IDS[:, :5], *IDS[:, 5:].split(1, 1)):
        with case.mole.gated("two"):
            case.fused(input_ids=part)
        out = {m: m(input_ids=part, past_key_values=c, use_cache=True).logits for m, c in caches.items()}
        assert torch.equal(out[case.fused], out[case.untouched])


@torch.no_grad()
@pytest.mark.parametrize("name", SETTINGS)
def test_one_expert_alone_gives_pefts_own_logits(case: Case, name: str) -> None:
    with case.mole.gated(name):
        assert torch.equal(case.fused(input_ids=IDS).logits, case.by_peft(name))
    one_hot = torch.tensor([float(n == name) for n in case.mole.names])
    with case.mole.gated(one_hot):
        assert close(case.fused(input_ids=IDS).logits, case.by_peft(name))


@torch.no_grad()
def test_a_mixture_is_the_sum_of_its_parts(case: Case) -> None:
    gates = {"one": 0.5, "two": 0.3, "three": -0.7}
    weights = torch.tensor([0.4, *gates.values()])
    with case.mole.gated(weights):
        assert close(case.fused(input_ids=IDS).logits, case.by_merging(gates))


@torch.no_grad()
def test_a_switch_in_mid_sequence_is_the_same_in_steps_as_in_one_go(case: Case) -> None:
    """A written answer, then speech: another gate at every position, and from position 6 on only one expert."""
    weights = torch.rand(3, 12, 4, generator=torch.Generator().manual_seed(1))
    weights[:, 6:] = torch.tensor([0.0, 0, 1, 0])
    with case.mole.gated(weights):
        whole = case.fused(input_ids=IDS).logits
    cache = DynamicCache(config=case.fused.config)
    steps = []
    for start, stop in ((0, 4), (4, 6), *((i, i + 1) for i in range(6, 12))):
        with case.mole.gated(weights[:, start:stop] if start < 6 else "two"):
            steps.append(case.fused(input_ids=IDS[:, start:stop], past_key_values=cache, use_cache=True).logits)
    assert close(torch.cat(steps, 1), whole)
    with case.mole.gated(weights[1:2]):  # and a batch is its sequences
        assert close(case.fused(input_ids=IDS[1:2]).logits, whole[1:2])


def test_gates_learn_and_nothing_else_does(llama: Case) -> None:
    model = copy.deepcopy(llama.untouched).requires_grad_(False)
    mole = MoLE(model, {"text": None, "one": Expert.load(llama.folders["one"])})
    weights = torch.full((3, 12, 2), 0.5, requires_grad=True)
    with mole.gated(weights):
        model(input_ids=IDS).logits.square().mean().backward()
    assert weights.grad is not None and weights.grad[..., 1].abs().sum() > 0
    assert not weights.grad[..., 0].any()  # the identity adds nothing, however much of it
    assert all(p.grad is None for p in model.parameters())


def test_streams_in_other_threads_have_gates_of_their_own(llama: Case) -> None:
    results = {}
    both_inside = threading.Barrier(2)

    def speak(name: str) -> None:
        with torch.no_grad(), llama.mole.gated(name):
            both_inside.wait()
            results[name] = llama.fused(input_ids=IDS).logits

    threads = [threading.Thread(target=speak, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in ("one", "two"):
        with torch.no_grad(), llama.mole.gated(name):
            assert torch.equal(results[name], llama.fused(input_ids=IDS).logits)


def test_experts_move_with_the_model(llama: Case) -> None:
    model = copy.deepcopy(llama.untouched)
    mole = MoLE(model, {"one": Expert.load(llama.folders["one"])})
    model.to(torch.bfloat16)
    for gates in ("one", torch.ones(1)):
        with torch.no_grad(), mole.gated(gates):
            assert model(input_ids=IDS).logits.dtype == torch.bfloat16
    assert [name for name, _ in mole.layers()] == sorted(
        Expert.load(llama.folders["one"]).layers, key=list(dict(model.named_modules())).index
    )


def test_fused_weights_are_not_part_of_the_backbones_state(llama: Case) -> None:
    shapes = {name.replace(".base.", "."): t.shape for name, t in llama.fused.state_dict().items()}
    assert shapes == {name: t.shape for name, t in llama.untouched.state_dict().items()}
    assert any(isinstance(m, MoleLinear) for m in llama.fused.modules())


# Bad input


def test_unknown_gates_are_clear_errors(llama: Case) -> None:
    with (
        pytest.raises(VoicegraftError, match="no expert 'four'; there are: text, one, two, three"),
        llama.mole.gated("four"),
    ):
        pass
    with pytest.raises(VoicegraftError, match=r"weights of 4 experts .*, got \(2,\)"), llama.mole.gated(torch.ones(2)):
        pass
    with pytest.raises(VoicegraftError, match="at least one expert"):
        MoLE(llama.untouched, {})


def test_an_expert_for_another_backbone_is_a_clear_error(llama: Case, tmp_path: Path) -> None:
    phi = random_backbone("phi")
    with pytest.raises(VoicegraftError, match=r"no such module: it was trained for another backbone"):
        MoLE(phi, {"one": Expert.load(llama.folders["one"])})
    qwen = random_backbone("qwen3")
    with pytest.raises(VoicegraftError, match=r"'three' expects .* to be .* this backbone's is"):
        MoLE(random_backbone("llama"), {"three": Expert.load(make_expert(qwen_wide(qwen), tmp_path, "three"))})


def qwen_wide(model: PreTrainedModel) -> PreTrainedModel:
    """The same modules, in other sizes."""
    config = copy.deepcopy(model.config)
    config.head_dim = 16
    return type(model)(config)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    ],
)
def test_an_adapter_that_is_more_than_lora_is_refused(
    llama: Case, tmp_path: Path, change: dict[str, Any], match: str
) -> None:
    folder = make_expert(llama.untouched, tmp_path, "one", **change)
    with pytest.raises(VoicegraftError, match=f"has {match}: experts are ordinary LoRA"):
        Expert.load(folder)


def test_broken_adapter_folders_are_clear_errors(llama: Case, tmp_path: Path) -> None:
    with pytest.raises(VoicegraftError, match="no PEFT adapter in"):
        Expert.load(tmp_path)
    for what, damage in {
        "truncated": lambda f: (f / "adapter_model.safetensors").write_bytes(b"\0" * 20),
        "no config": lambda f: (f / "adapter_config.json").unlink(),
        "not JSON": lambda f: (f / "adapter_config.json").write_text("{"),
        "prefix tuning": lambda f: (f / "adapter_config.json").write_text(json.dumps({"peft_type": "PREFIX_TUNING"})),
    }.items():
        folder = make_expert(llama.untouched, tmp_path / what, "one")
        damage(folder)
        with pytest.raises(VoicegraftError):
            Expert.load(folder)
