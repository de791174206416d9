"""Every kind of connector keeps one contract."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests import tiny
from voicegraft.core.artifacts import save_artifact
from voicegraft.core.errors import VoicegraftError
from voicegraft.data.chat import encode
from voicegraft.fusion.backbone import backbone_fingerprint
from voicegraft.fusion.connectors.aligned import Aligned, AlignedConfig
from voicegraft.fusion.connectors.base import Connector, ConnectorConfig, open_connector
from voicegraft.fusion.connectors.conformer import Conformer, ConformerConfig
from voicegraft.fusion.connectors.convolution import Convolution, ConvolutionConfig
from voicegraft.fusion.connectors.qformer import QFormer, QFormerConfig
from voicegraft.fusion.connectors.stack import Stack, StackConfig
from voicegraft.fusion.connectors.states import States, StatesConfig

BACKBONE, TOKENIZER = tiny.llama(), tiny.byte_tokenizer()
FITS = ConnectorConfig(24, 32, "ears", backbone_fingerprint(BACKBONE))
LETTERS = encode(TOKENIZER, "abcdefghijklmnopqrstuvwxyz")
SMALL = {
    "stack": (Stack, StackConfig(**vars(FITS), stacked=3, hidden=20), (3, 1)),
    "convolution": (Convolution, ConvolutionConfig(**vars(FITS), width=16, bottleneck=12), (8, 1)),
    "conformer": (Conformer, ConformerConfig(**vars(FITS), width=16, heads=2, kernel=3), (1, 1)),
    "qformer": (QFormer, QFormerConfig(**vars(FITS), window=5, queries=2, width=16, heads=2), (5, 2)),
    "aligned": (Aligned, AlignedConfig(**vars(FITS), num_pieces=len(LETTERS), width=16, heads=2), ()),
    "states": (States, StatesConfig(**vars(FITS), hidden=20), (1, 1)),
}


def connector(kind: str) -> Connector:
    torch.manual_seed(0)
    cls, config, _ = SMALL[kind]
    made = cls(config).eval()
    if isinstance(made, Aligned):
        made.pieces.copy_(torch.tensor(LETTERS))
        torch.nn.init.normal_(made.direction.weight, std=3.0)  # so that it reads many letters
        torch.nn.init.normal_(made.blank.weight, std=0.3)
        torch.nn.init.constant_(made.blank.bias, -20.0)
    made.attach(BACKBONE, TOKENIZER)
    if isinstance(made, States):
        torch.nn.init.normal_(made.more[-1].weight)
        made.attach_ears(Recogniser())  # type: ignore[arg-type]
    return made


class Recogniser:
    """Ears whose decoder says letters."""

    width, fingerprint = 24, "ears"

    def __init__(self) -> None:
        self.words = torch.randn(27, 24, generator=torch.Generator().manual_seed(2))
        self.vocabulary = [*"abcdefghijklmnopqrstuvwxyz", "<end>"]
        self.decoder = self

    def decode(self, tokens: list[int]) -> str:
        return "".join(self.vocabulary[token] for token in tokens)


def some_frames() -> tuple[Tensor, Tensor]:
    return torch.randn(3, 41, 24, generator=torch.Generator().manual_seed(1)), torch.tensor([41, 17, 30])


@pytest.mark.parametrize("kind", SMALL)
def test_a_batch_equals_its_rows_whatever_stands_in_the_padding(kind: str) -> None:
    model, (frames, lengths) = connector(kind), some_frames()
    with torch.no_grad():
        together = model(frames, lengths)
        louder = model(frames + 100 * (torch.arange(41) >= lengths[:, None])[..., None], lengths)
        for row, other, x, n in zip(together.rows(), louder.rows(), frames, lengths, strict=True):
            alone = model(x[None, :n], n[None]).rows()[0]
            assert len(alone) > 0
            torch.testing.assert_close(row, alone, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(other, alone, atol=1e-4, rtol=1e-4)
    assert together.vectors.shape[::2] == (3, 32)
    if SMALL[kind][2]:
        frames_each, vectors_each = SMALL[kind][2]
        assert together.lengths.tolist() == [-(-n // frames_each) * vectors_each for n in lengths.tolist()]


@pytest.mark.parametrize("kind", SMALL)
def test_every_weight_learns(kind: str) -> None:
    model, (frames, lengths) = connector(kind).train(), some_frames()
    loss = model(frames, lengths).vectors.pow(2).sum()
    if isinstance(model, Aligned):
        loss = loss + model.scores(*model.directions(frames, lengths)[:2])[..., :2].sum()
    loss.backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("kind", SMALL)
def test_what_was_saved_hears_the_same(kind: str, tmp_path: Path) -> None:
    model, (frames, lengths) = connector(kind), some_frames()
    model.load_state_dict({name: t.half() if t.is_floating_point() else t for name, t in model.state_dict().items()})
    model.save(tmp_path / "connector", {"recipe": "test"})
    again = open_connector(tmp_path / "connector")
    again.attach(BACKBONE, TOKENIZER)
    if again.NEEDS_EARS:
        again.attach_ears(Recogniser())  # type: ignore[arg-type]
    with torch.no_grad():
        torch.testing.assert_close(again(frames, lengths).vectors, model(frames, lengths).vectors, atol=0, rtol=0)
    assert type(again) is type(model) and again.config == model.config
    assert not [name for name, p in again.named_parameters() if p.requires_grad]


@pytest.mark.parametrize(
    "kind, millions",
    [("stack", 5), ("convolution", 9), ("conformer", 53), ("qformer", 19), ("aligned", 7.5), ("states", 0.3)],
)
def test_the_usual_sizes_are_those_of_the_papers(kind: str, millions: float) -> None:
    cls, config, _ = SMALL[kind]
    usual = {"num_pieces": 3000} if cls is Aligned else {}
    with torch.device("meta"):
        model = cls(type(config)(512, 576, "", "", **usual))
    assert 0.75 * millions < sum(p.numel() for p in model.parameters()) / 1e6 <= millions


def test_the_aligned_one_hands_on_what_it_reads() -> None:
    model, (frames, lengths) = connector("aligned"), some_frames()
    assert isinstance(model, Aligned)
    with torch.no_grad():
        heard = model(frames, lengths).rows()
    for tokens, vectors in zip(model.read(frames, lengths), heard, strict=True):
        assert len(tokens) > 1
        assert encode(TOKENIZER, TOKENIZER.decode(tokens).strip()) == tokens
        torch.testing.assert_close(vectors, BACKBONE.get_input_embeddings().weight[tokens])


def test_where_only_blank_is_likely_nothing_is_heard() -> None:
    model, (frames, lengths) = connector("aligned"), some_frames()
    assert isinstance(model, Aligned)
    torch.nn.init.constant_(model.blank.bias, 1e3)
    assert model(frames, lengths).lengths.tolist() == [0, 0, 0]
    assert model.read(frames, lengths) == [[], [], []]


def test_who_does_not_fit_is_refused(tmp_path: Path) -> None:
    model = connector("stack")
    model.check_encoder(24, "ears")
    with pytest.raises(VoicegraftError, match=r"encoder.*frames: expected 24, got 80"):
        model.check_encoder(80, "ears")
    with pytest.raises(VoicegraftError, match=r"encoder.*fingerprint: expected ears, got eyes"):
        model.check_encoder(24, "eyes")
    model.config = replace(model.config, backbone="other")
    with pytest.raises(VoicegraftError, match=r"backbone.*expected other"):
        model.attach(BACKBONE, TOKENIZER)
    model.config = replace(model.config, output_width=576)
    with pytest.raises(VoicegraftError, match=r"backbone.*embeddings: expected 576, got 32"):
        model.attach(BACKBONE, TOKENIZER)
    with pytest.raises(VoicegraftError, match="attach"):
        Aligned(AlignedConfig(**vars(FITS), num_pieces=2, width=16, heads=2))(*some_frames())
    save_artifact(tmp_path / "x", "vocoder", FITS, {"a": torch.zeros(1)})
    with pytest.raises(VoicegraftError, match=r"expected a connector.*found a vocoder"):
        open_connector(tmp_path / "x")
