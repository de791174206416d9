"""Pretrained speech encoders of transformers behind one interface: waveforms in, the frames of one hidden layer out.

HuBERT (arXiv 2106.07447) and WavLM (2110.13900) read samples by convolutions, w2v-BERT 2.0 (2312.05187) reads a filter
bank, Whisper (2212.04356) a log-mel of 30 s. Another family is a subclass of ``_Family`` and a line in ``FAMILIES``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel

from voicegraft.core.errors import VoicegraftError
from voicegraft.core.library_logging import quietly
from voicegraft.encoders.hub_models import load_extractor, load_pretrained

WANTED = "speech encoder"  # in errors

_KALDI_WINDOW, _KALDI_HOP = 400, 160  # samples; SeamlessM4TFeatureExtractor knows no others
_WHISPER_STRIDE = 2  # mel frames per encoder frame


class _Family:
    """What differs between kinds of encoders: how they read sound. Frames have no mask, so a batch has one length."""

    num_layers = "num_hidden_layers"  # the config's field
    settings: Mapping[str, Any] = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0, "add_adapter": False}
    window: int | None = None  # frames read at a time; all if there is no limit

    def __init__(self, config: PretrainedConfig, extractor: Any):
        self.extractor = extractor
        self.hop = 0  # samples per frame

    @staticmethod
    def own(model: nn.Module) -> Any:
        """The part of what ``AutoModel`` loads that is used and saved."""
        return model

    @staticmethod
    def loader() -> Any:
        """The class that loads that part again."""
        return AutoModel

    @staticmethod
    def trunk(model: nn.Module) -> Any:
        """The module that holds the ``layers``."""
        return model.encoder

    def span(self, num_frames: int) -> int:
        """Samples that as many frames look at."""
        raise NotImplementedError

    def inputs(self, samples: Tensor, span: int) -> Tensor:
        """Waveforms ``[B, T <= span]`` -> what the model reads, as of ``span`` samples."""
        return self._extract(F.pad(samples, (0, span - samples.shape[-1])))

    def hidden(self, model: Any, inputs: Tensor) -> Tensor:
        """What the model makes of ``inputs``: its own output."""
        output: Tensor = model(inputs).last_hidden_state
        return output

    def _extract(self, samples: Tensor, **options: Any) -> Tensor:
        batch = samples.float().cpu().numpy()
        found = self.extractor(batch, sampling_rate=self.extractor.sampling_rate, return_tensors="pt", **options)
        inputs: Tensor = found[self.extractor.model_input_names[0]]
        return inputs


class _Convolutions(_Family):
    """HuBERT, WavLM: strided convolutions over samples, of which a frame sees more than a hop."""

    def __init__(self, config: PretrainedConfig, extractor: Any):
        super().__init__(config, extractor)
        self.hop, self.field = 1, 1
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            self.field += (kernel - 1) * self.hop
            self.hop *= stride

    def span(self, num_frames: int) -> int:
        return (num_frames - 1) * self.hop + self.field

    def inputs(self, samples: Tensor, span: int) -> Tensor:
        # Normalised before it is padded: zeros must not count for the loudness.
        return self._extract(samples, padding="max_length", max_length=span, return_attention_mask=True)


class _FilterBank(_Family):
    """w2v-BERT: a mel filter bank, several of its frames stacked."""

    settings: Mapping[str, Any] = {**_Family.settings, "use_intermediate_ffn_before_adapter": False}

    def __init__(self, config: PretrainedConfig, extractor: Any):
        super().__init__(config, extractor)
        self.hop = _KALDI_HOP * extractor.stride

    def span(self, num_frames: int) -> int:
        return (num_frames * self.extractor.stride - 1) * _KALDI_HOP + _KALDI_WINDOW

    def inputs(self, samples: Tensor, span: int) -> Tensor:
        return self._extract(F.pad(samples, (0, span - samples.shape[-1])), pad_to_multiple_of=None)


class _Whisper(_Family):
    """The encoder of Whisper: a log-mel of at most its window; trained on such that are padded to it."""

    num_layers = "encoder_layers"
    settings: Mapping[str, Any] = {"decoder_layers": 0}

    def __init__(self, config: PretrainedConfig, extractor: Any):
        super().__init__(config, extractor)
        self.hop = extractor.hop_length * _WHISPER_STRIDE
        self.window = config.max_source_positions
        if self.window * self.hop != extractor.n_samples:
            raise VoicegraftError(
                f"expected a feature extractor of {self.window * self.hop} samples, as the encoder reads, got one of "
                f"{extractor.n_samples}; take both from the same model"
            )

    @staticmethod
    def own(model: nn.Module) -> Any:
        return getattr(model, "encoder", model)

    @staticmethod
    def loader() -> Any:
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        return WhisperEncoder

    @staticmethod
    def trunk(model: nn.Module) -> Any:
        return model

    def span(self, num_frames: int) -> int:
        return num_frames * self.hop

    def inputs(self, samples: Tensor, span: int) -> Tensor:
        return self._extract(F.pad(samples, (0, span - samples.shape[-1])), padding=False)

    def hidden(self, model: Any, inputs: Tensor) -> Tensor:
        # transformers' own forward, but for its refusal of sound that is shorter than the window.
        hidden = F.gelu(model.conv2(F.gelu(model.conv1(inputs)))).transpose(1, 2)
        hidden = hidden + model.embed_positions.weight[: hidden.shape[1]]
        for layer in model.layers:
            hidden = layer(hidden, None)
        output: Tensor = model.layer_norm(hidden)
        return output


FAMILIES: dict[str, type[_Family]] = {  # by the model_type of the config
    "hubert": _Convolutions,
    "wavlm": _Convolutions,
    "wav2vec2-bert": _FilterBank,
    "whisper": _Whisper,
}


class _Reached(Exception):
    """The wanted layer's output; what the model would do next is not needed."""

    def __init__(self, hidden: Tensor):
        super().__init__()
        self.hidden = hidden


class _Exit(nn.Module):
    """Stands behind the last layer that is wanted."""

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> NoReturn:
        raise _Reached(hidden)


class SpeechEncoder(nn.Module):
    """A pretrained encoder, or the lower layers of one, frozen.

    Frames are what leaves the layer of that number, before any final norm: transformers' ``hidden_states[layer]``.
    Layer 0 is what enters the first one. Without a number they are the model's own output.
    """

    def __init__(self, model: PreTrainedModel, extractor: Any, whole: bool = False):
        """
        Args:
            whole: frames are the model's own output, not what leaves its last layer.
        """
        super().__init__()
        config = model.config
        family = FAMILIES[config.model_type]
        self.reader = family(config, extractor)
        self.sample_rate: int = extractor.sampling_rate  # Hz
        self.hop = self.reader.hop  # samples per frame
        self.width: int = config.hidden_size
        self.layer: int = getattr(config, family.num_layers)
        self.model = model
        if not whole:
            family.trunk(model).layers.append(_Exit())
        self.eval().requires_grad_(False)

    def forward(self, samples: Tensor) -> Tensor:
        """Waveforms ``[B, T]`` -> features ``[B, T // hop, D]``; at the end a frame may see zeros beyond the sound."""
        return self.in_windows(samples, self.reader.window or max(1, samples.shape[-1] // self.hop))

    def in_windows(self, samples: Tensor, window: int, tail: int = 0) -> Tensor:
        """The same, so many frames at a time, each time with ``tail`` more behind them: sound, then silence."""
        num_frames = samples.shape[-1] // self.hop
        weight = next(self.model.parameters())
        pieces = [torch.zeros(len(samples), 0, self.width, device=weight.device)]
        for begin in range(0, num_frames, window):
            first = max(0, min(begin, num_frames - window))  # the last window is a full one, if there is that much
            hidden = self.encode(samples[:, first * self.hop :], window + tail)
            pieces.append(hidden[:, begin - first : num_frames - first][:, :window])
        return torch.cat(pieces, 1)

    def encode(self, samples: Tensor, num_frames: int) -> Tensor:
        """The first frames of waveforms ``[B, T]`` -> features ``[B, num_frames, D]``; what is shorter ends in silence."""
        span = self.reader.span(num_frames)
        inputs = self.reader.inputs(samples[:, :span], span).to(next(self.model.parameters()))
        try:
            hidden = self.reader.hidden(self.model, inputs)
        except _Reached as reached:
            hidden = reached.hidden
        return hidden.float()

    def save(self, folder: Path) -> None:
        """Writes the layers in use as transformers would, with the settings of the feature extractor."""
        with quietly():
            self.model.save_pretrained(folder)
        self.reader.extractor.save_pretrained(folder)

    @staticmethod
    def load(folder: Path) -> SpeechEncoder:
        """What ``save`` wrote; nothing is downloaded."""

        def class_of(config: Any) -> Any:
            return FAMILIES[config.model_type].loader()

        model = load_pretrained(folder, WANTED, FAMILIES, class_of=class_of)
        return SpeechEncoder(model, load_extractor(folder, WANTED, FAMILIES))

    @staticmethod
    def from_pretrained(name_or_path: str | Path, layer: int | None) -> SpeechEncoder:
        """The layers up to ``layer``, or the whole encoder, of a model on the Hub or in a folder, in float32.

        Raises:
            VoicegraftError: no such model, of a family that is not known, without such a layer, without safetensors
                weights or settings of its feature extractor.
        """

        def class_of(config: Any) -> Any:
            family = FAMILIES[config.model_type]
            num_layers = getattr(config, family.num_layers)
            wanted = num_layers if layer is None else layer
            if not 0 <= wanted <= num_layers:
                raise VoicegraftError(f"expected a layer of {name_or_path} from 0 to {num_layers}, got {layer}")
            for key, value in {**family.settings, family.num_layers: wanted}.items():
                setattr(config, key, value)
            own = family.loader()  # of what ``save`` wrote
            return own if config.architectures == [own.__name__] else AutoModel

        model = load_pretrained(name_or_path, WANTED, FAMILIES, class_of=class_of)
        extractor = load_extractor(name_or_path, WANTED, FAMILIES)
        return SpeechEncoder(FAMILIES[model.config.model_type].own(model), extractor, whole=layer is None)
