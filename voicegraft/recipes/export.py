"""A pack's language model for other programs: a Hugging Face checkpoint (vLLM), or a GGUF file (llama.cpp).

    voicegraft export --format hf --out DIR [--pack PACK]
    voicegraft export --format gguf --out FILE.gguf [--dtype f32|f16|q8_0] [--pack PACK]

What comes out makes semantic tokens; the pack's acoustic model and vocoder turn them into sound. docs/export.md says what is
equal to what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from voicegraft.core.command_line import read_options
from voicegraft.core.errors import VoicegraftError
from voicegraft.core.library_logging import quietly
from voicegraft.core.runtime import single_thread
from voicegraft.export.card import pack_card
from voicegraft.export.extended_vocabulary import fits_ids
from voicegraft.export.gguf_file import GgufType, export_gguf
from voicegraft.export.huggingface import export_hf
from voicegraft.fusion.experts import SPEECH, TEXT, Expert
from voicegraft.inference.pack import DEFAULT_PACK, Pack, open_pack, pack_folder

_VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what its --max-lora-rank takes


@dataclass(frozen=True)
class ExportConfig:
    format: Literal["hf", "gguf"]  # a checkpoint of transformers, or one file for llama.cpp
    out: Path  # a new folder, or FILE.gguf
    pack: Path = DEFAULT_PACK  # voice pack
    backbone: Path | None = None  # folder of the text LLM, for a pack that does not hold it
    text_expert: Path | None = None  # hf: PEFT adapter folder that writes, exported as text/
    dtype: GgufType | None = None  # gguf: of matrices (default: f16)
    license: str = ""  # hf: of the weights, for the card, such as apache-2.0
    language: tuple[str, ...] = ()  # hf: for the card, such as en
    base_model: str = ""  # hf: the backbone's name on the Hub, for the card
    dataset: tuple[str, ...] = ()  # hf: corpora on the Hub, for the card


def main(argv: Sequence[str] | None = None) -> None:
    config = read_options(ExportConfig, argv, __doc__, "voicegraft export")
    single_thread()
    with quietly():
        export(config)


def export(options: ExportConfig) -> None:
    """Raises VoicegraftError: no such pack, a place that is taken, or a model that the format cannot hold."""
    out = options.out
    if options.format == "gguf":
        if out.suffix != ".gguf":
            raise VoicegraftError(f"expected --out FILE.gguf, got {out}")
        if options.text_expert is not None:
            raise VoicegraftError("a GGUF file only speaks: --text-expert goes with --format hf")
        pack = open_pack(pack_folder(options.pack), options.backbone)
        notes = export_gguf(pack.lm, out, options.dtype or "f16", pack.header.name)
        print("\n".join([f"{out}: {out.stat().st_size / 1e6:.1f} MB", *(f"note: {note}" for note in notes)]))
        return
    if options.dtype is not None:
        raise VoicegraftError("--dtype goes with --format gguf; a Hugging Face checkpoint keeps its backbone's type")
    pack = open_pack(pack_folder(options.pack), options.backbone, options.text_expert)
    adapters = {SPEECH: pack.folder / "expert" / SPEECH}
    if options.text_expert is not None:
        adapters[TEXT] = options.text_expert
    card = pack_card(
        pack.header,
        pack.folder,
        options.license,
        options.language,
        options.base_model,
        options.dataset,
        use=_use(pack),
    )
    sampling = pack.header.options.semantic
    grown = export_hf(pack.lm, adapters, out, card, sampling.temperature, sampling.top_p)
    print(f"{out}: speech tokens begin at id {grown.first_id}; see its README.md")
    if grown.logit_softcap is not None:
        print(
            f"note: this backbone caps its logits at {grown.logit_softcap:g}, those of speech too: the likeliest token stays "
            "the same, sampling is a little flatter"
        )


def _use(pack: Pack) -> str:
    """What the card says of the checkpoint in this form."""
    config = pack.lm.speech_embedding.config
    parts = [
        "The language model of a voicegraft pack as an ordinary checkpoint: text in, semantic tokens out. The pack's acoustic "
        "model and vocoder, which turn tokens into sound, are not in it. The speech vocabulary lies behind that of text; "
        "`speech.json` says which ids are what. Without the adapter `speech/` it is the backbone."
    ]
    if not fits_ids(config):
        parts.append(
            "**Ids are not enough**: at speech positions this expert reads sums of rows, which are in "
            "`speech_inputs.safetensors`, and its logits have a bias (`head.bias` there). It is driven by `inputs_embeds`, as "
            "voicegraft's `SpeechEmbedding` does it, and not by a server that takes ids."
        )
        return "\n\n".join(parts)
    parts.append(
        "A sequence is: ids of the text after the begin token, a voice, `<|say|>`; codes follow up to `<|advance|>`."
    )
    rank = max(len(layer.down) for layer in Expert.load(pack.folder / "expert" / SPEECH).layers.values())
    fits = next((r for r in _VLLM_RANKS if r >= rank), None)
    if fits is None:
        parts.append(f"The adapter's rank, {rank}, is more than vLLM takes.")
    else:
        serve = f"vllm serve DIR --enable-lora --max-lora-rank {fits} --lora-modules speech=DIR/speech"
        parts.append(f"```\n{serve}\n```")
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
