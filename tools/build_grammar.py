"""Compiles the English grammars that the package ships. Only a maintainer runs this:

    pip install 'voicegraft[grammar]'
    python -m tools.build_grammar

It takes about half a minute and replaces data/english.npz, which records the versions that it was made with.
"""

from __future__ import annotations

import argparse
import logging
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from voicegraft.core.errors import VoicegraftError
from voicegraft.text.english.grammar import GRAMMAR_FILE, GRAMMAR_FORMAT


def build(path: Path = GRAMMAR_FILE) -> None:
    """Compiles the grammars of the installed nemo_text_processing into one file of arrays."""
    try:
        from nemo_text_processing.text_normalization.normalize import Normalizer
    except ImportError as error:
        raise VoicegraftError(
            f"expected nemo_text_processing to build the grammar, found none ({error}); "
            "run `pip install 'voicegraft[grammar]'`"
        ) from error
    logging.disable(logging.INFO)
    # "cased" keeps "US" apart from "us"; the post-processing only moves spaces, which tidy() does
    normalizer = Normalizer(input_case="cased", lang="en", post_process=False)
    arrays: dict[str, np.ndarray] = {
        "format": np.array(GRAMMAR_FORMAT),
        "source": np.array(", ".join(f"{name} {version(name)}" for name in ("nemo_text_processing", "pynini"))),
        "licence": np.array("Apache-2.0, copyright NVIDIA Corporation; compiled, otherwise unchanged"),
    }
    for part, machine in (("tagger", normalizer.tagger.fst), ("verbaliser", normalizer.verbalizer.fst)):
        arrays |= {f"{part}.{name}": array for name, array in _arrays(machine).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent) as folder:
        np.savez_compressed(Path(folder) / path.name, **arrays)  # type: ignore[arg-type]
        (Path(folder) / path.name).replace(path)


def _arrays(machine: Any) -> dict[str, np.ndarray]:
    """A pynini transducer as the arrays that voicegraft.text.english.transducer.Transducer reads."""
    num_arcs, arcs, jumps, weights, finals = [], [], [], [], {}
    for state in machine.states():
        num_arcs.append(machine.num_arcs(state))
        final = float(machine.final(state))
        if np.isfinite(final):
            finals[state] = final
        for arc in machine.arcs(state):
            arcs.append((arc.ilabel, arc.olabel))
            jumps.append(arc.nextstate - state)
            weights.append(float(arc.weight))
    labels = np.array(arcs)
    values, index = np.unique(np.array(weights, dtype=np.float32), return_inverse=True)
    if labels.max() > 255 or len(values) > 255:
        raise VoicegraftError(
            f"expected byte labels and at most 255 different weights, found {labels.max()}, {len(values)}; "
            "this version of nemo_text_processing needs another file format"
        )
    return {
        "start": np.array(machine.start(), dtype=np.int32),
        "num_arcs": np.array(num_arcs, dtype=np.uint16),
        "input": labels[:, 0].astype(np.uint8),
        "output": labels[:, 1].astype(np.uint8),
        "weight": index.astype(np.uint8),
        "weights": values,
        "jump": np.array(jumps, dtype=np.int32),
        "final_states": np.array(list(finals), dtype=np.int32),
        "final_weights": np.array(list(finals.values()), dtype=np.float32),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compile the English grammars that voicegraft ships.")
    parser.add_argument("--out", type=Path, default=GRAMMAR_FILE, help="(default: inside the package)")
    build(parser.parse_args().out)
