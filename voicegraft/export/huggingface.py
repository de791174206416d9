"""Speech experts as an ordinary Hugging Face checkpoint with PEFT adapters, for programs such as vLLM.

DIR/                        the backbone with the speech vocabulary behind the text's; config, weights, tokenizer
DIR/speech/, DIR/text/      PEFT adapters for it; speech/generation_config.json says how to generate speech
DIR/speech.json             which ids are what
DIR/speech_inputs.safetensors   where ids do not say everything: what else the rows are made of
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import GenerationConfig

from voicegraft.core.artifacts import atomic_folder
from voicegraft.core.config import to_dict
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.files import write_text
from voicegraft.export.extended_vocabulary import Grown, fits_ids, grow
from voicegraft.fusion.experts import ADAPTER_WEIGHTS, SPEECH, Expert
from voicegraft.fusion.speech_embedding import SpeechEmbeddingConfig
from voicegraft.fusion.speech_lm import SpeechLM
from voicegraft.tokenizers.vocabulary import END_OF_UNIT, SPEECH_BOS

SPEECH_JSON = "speech.json"
SPEECH_INPUTS = "speech_inputs.safetensors"
_ADAPTER_CONFIG = "adapter_config.json"


def export_hf(
    lm: SpeechLM,
    adapters: Mapping[str, Path],
    out: Path,
    card: str = "",
    temperature: float = 0.0,
    top_p: float = 1.0,
) -> Grown:
    """Writes the checkpoint; ``lm`` is used up: its backbone and tokenizer grow.

    Args:
        adapters: name -> PEFT's folder of each expert that ``lm`` was fused with, with "speech" among them.
        card: becomes README.md.
        temperature: of speech; 0 takes the likeliest.

    Raises:
        VoicegraftError: the backbone or the expert cannot be held by such a checkpoint, or ``out`` cannot be written.
    """
    dtype = _stored_dtype(lm)
    with atomic_folder(out, marker=SPEECH_JSON) as draft:
        for name, folder in adapters.items():
            _copy_adapter(folder, draft / name, out.name)
        grown = grow(lm)
        backbone = lm.backbone
        ids = speech_ids(lm.speech_embedding.config, grown)
        assert backbone.generation_config is not None
        # Speech tokens are no text: the softmax of text shall not see them.
        backbone.generation_config.suppress_tokens = list(range(grown.first_id, backbone.config.vocab_size))
        backbone.to(dtype).save_pretrained(draft)  # type: ignore[arg-type]
        lm.tokenizer.save_pretrained(draft)
        _speech_generation(ids, lm, temperature, top_p).save_pretrained(draft / SPEECH)
        write_text(draft / SPEECH_JSON, json.dumps(ids, indent=2, ensure_ascii=False))
        rest = {n: t for n, t in lm.speech_embedding.state_dict().items() if n not in ("token.weight", "head.weight")}
        if rest:
            save_file(rest, draft / SPEECH_INPUTS)
        write_text(draft / "README.md", card)
        for path in draft.rglob("*.safetensors"):
            path.chmod(0o644)  # safetensors writes for the owner only
    return grown


def speech_ids(config: SpeechEmbeddingConfig, grown: Grown) -> dict[str, Any]:
    """``speech.json``: which ids of the grown vocabulary are what."""
    vocabulary, first = config.vocabulary, grown.first_id
    return {
        "format": 1,
        "driven_by": "ids" if fits_ids(config) else "inputs_embeds",
        "prompt": "ids of the text (after the begin token, if there is one), a voice, say; codes follow, up to advance",
        "first_id": first,
        "say": first + SPEECH_BOS,
        "advance": first + END_OF_UNIT,
        "voices": {voice: first + vocabulary.voice_id(voice) for voice in vocabulary.voices},
        "first_code": first + vocabulary.first_code,
        "num_codes": vocabulary.num_codes,
        "first_run": first + vocabulary.first_run,
        "num_runs": vocabulary.num_runs,
        "logit_softcap": grown.logit_softcap,
        "rows": to_dict(config),
    }


def _copy_adapter(source: Path, target: Path, base: str) -> None:
    """PEFT's two files. What the adapter says of its backbone's identity stays behind: the exported one is another file."""
    Expert.load(source)  # what is no ordinary LoRA is refused here
    target.mkdir()
    shutil.copyfile(source / ADAPTER_WEIGHTS, target / ADAPTER_WEIGHTS)
    config = json.loads((source / _ADAPTER_CONFIG).read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base
    write_text(target / _ADAPTER_CONFIG, json.dumps(config, indent=2))


def _speech_generation(ids: Mapping[str, Any], lm: SpeechLM, temperature: float, top_p: float) -> GenerationConfig:
    tokenizer = lm.tokenizer
    sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0} if temperature else {}
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ids["advance"],
        pad_token_id=ids["advance"],
        min_new_tokens=1,  # an utterance has a frame at least
        suppress_tokens=[],  # overrides what keeps text free of speech
        **sampling,
    )


def _stored_dtype(lm: SpeechLM) -> torch.dtype:
    """The type that the backbone's own files have: holding it in another one to speak does not make it larger on disk."""
    checkpoint: Any = getattr(lm.backbone, "checkpoint", None)
    if checkpoint is None:
        return lm.backbone.dtype
    raw = json.loads((checkpoint.folder / "config.json").read_text(encoding="utf-8"))
    name = raw.get("dtype") or raw.get("torch_dtype")
    dtype = getattr(torch, str(name), None)
    if name is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise VoicegraftError(
            f"{checkpoint.folder / 'config.json'} names a type {name!r}, which this program cannot write"
        )
    return lm.backbone.dtype if name is None else dtype  # type: ignore[return-value]
