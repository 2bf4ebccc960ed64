"""Keywords: each a sequence of three syllables, a syllable two gliding sines, under noise.

A second of sound at 8 kHz becomes 49 frames (40 ms each, one every 20 ms) of 10 log energies in
bands like those of hearing. The twelve words are sequences over four syllables, some of which
differ in one place only; pitch, tempo, start and loudness vary from speaker to speaker.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
from torch import nn
from torch.nn import functional

from edgesparse.models.ds_cnn import ds_cnn
from edgesparse.models.tasks.task import FloatArray, Schedule, Split, Task

RATE = 8000  # samples of sound a second
FRAME, HOP = 320, 160  # samples
FRAMES, BANDS = 49, 10
NOISE = 2.2
TRAINING, HELDOUT = 3000, 1200
# Of each syllable: frequencies in Hz of two sines, at its start and at its end.
SYLLABLES = np.array(
    [
        [[300, 300], [2200, 2000]],
        [[650, 500], [1100, 1300]],
        [[400, 550], [900, 800]],
        [[350, 600], [1700, 1400]],
    ],
    np.float64,
)
WORDS = np.array(
    [
        [0, 1, 2], [0, 2, 1], [0, 1, 3], [1, 0, 2], [1, 0, 3], [1, 2, 3],
        [2, 0, 1], [2, 3, 1], [2, 1, 0], [3, 0, 1], [3, 2, 1], [3, 1, 0],
    ]
)  # fmt: skip


def sounds(label: npt.NDArray[np.int64], random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return sounds: (words, 8000), one speaker each."""
    count = len(label)

    def draw(low: float, high: float) -> npt.NDArray[np.float64]:
        return random.uniform(low, high, (count, 1))

    time = np.arange(RATE) / RATE
    start, length = draw(0.05, 0.3), draw(0.14, 0.22)
    position = (time - start) / length  # in syllables
    pitch, first, second = draw(0.85, 1.18), draw(0.6, 1.2), draw(0.6, 1.2)
    place = np.clip(position, 0, 2.999).astype(np.int64)
    within = np.clip(position, 0, 3) - place
    syllable = SYLLABLES[np.take_along_axis(WORDS[label], place, axis=1)]
    frequency = syllable[..., 0] + (syllable[..., 1] - syllable[..., 0]) * within[..., None]
    phase = 2 * np.pi * np.cumsum(frequency * pitch[..., None], axis=1) / RATE
    loudness = np.sin(np.pi * np.clip(within, 0, 1)) * ((position > 0) & (position < 3))
    sines = first * np.sin(phase[..., 0]) + second * np.sin(phase[..., 1])
    noise = NOISE * random.standard_normal((count, RATE))
    sound: npt.NDArray[np.float64] = loudness * sines + noise
    return sound


@functools.cache
def band_weights() -> npt.NDArray[np.float64]:
    """Return weights: (bins, bands), triangles that widen with frequency.

    Source: Davis & Mermelstein 1980, figure 1, on the scale 2595 log10(1 + f / 700).
    """
    bins = np.fft.rfftfreq(FRAME, 1 / RATE)
    edges = 700 * (10 ** (np.linspace(150, 2146, BANDS + 2) / 2595) - 1)
    rise = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    return np.clip(np.minimum(rise, fall), 0, None)


def features(sound: npt.NDArray[np.float64]) -> FloatArray:
    """Return features: (words, 1, 49, 10) float32, log energies of about unit scale."""
    windows = np.lib.stride_tricks.sliding_window_view(sound, FRAME, axis=1)[:, ::HOP]
    spectrum = np.abs(np.fft.rfft(windows * np.hanning(FRAME), axis=2)) ** 2
    energies = np.log(spectrum @ band_weights() + 1e-3)
    scaled: FloatArray = ((energies - 6.5) / 1.5).astype(np.float32)
    return scaled[:, None]


def make(count: int, seed: int) -> Split:
    """Return words of all speakers."""
    random = np.random.default_rng(seed)
    label = random.integers(0, len(WORDS), count)
    parts = [features(sounds(part, random)) for part in np.array_split(label, max(1, count // 250))]
    return Split(np.concatenate(parts), label)


@functools.cache
def splits() -> tuple[Split, Split]:
    """Return training and held-out words."""
    return make(TRAINING, seed=1), make(HELDOUT, seed=2)


def network(width: float) -> nn.Sequential:
    """Return a DS-CNN."""
    return ds_cnn(width=width, num_classes=len(WORDS))


TASK = Task(
    name="keywords",
    network=network,
    network_name="ds_cnn",
    architecture="DS-CNN-S",
    shape=(1, 1, FRAMES, BANDS),
    splits=splits,
    loss=functools.partial(functional.cross_entropy, label_smoothing=0.05),
    metric="top1",
    schedule=Schedule(batch=32, dense_steps=500, prune_steps=180),
    input_name="features",
)
