"""Values that travel between layers."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Waveform:
    """Mono audio.

    Raises:
        ValueError: the samples are not a float32 vector, or the rate is not positive.
    """

    samples: npt.NDArray[np.float32]  # [T], in [-1, 1]
    sample_rate: int  # Hz

    def __post_init__(self) -> None:
        if self.samples.ndim != 1 or self.samples.dtype != np.float32:
            raise ValueError(f"expected float32 samples [T], got {self.samples.dtype} {self.samples.shape}")
        if self.sample_rate <= 0:
            raise ValueError(f"expected a positive sample rate in Hz, got {self.sample_rate}")

    @property
    def duration_sec(self) -> float:
        return len(self.samples) / self.sample_rate
