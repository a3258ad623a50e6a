"""Random numbers of a training run, complete: seeding, seeds derived from names, and the generators' states as bytes.

Nothing here is a generator of its own: Python's, NumPy's and torch's global generators are what models, data sets and
collators draw from, so these are what a run seeds, captures and restores.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from plait.errors import TrainingError

_WORDS = 624  # the state of the Mersenne twister that Python and NumPy use, in 32-bit words


def derive(*parts: int | str) -> int:
    """A seed in [0, 2**63) from numbers and names; different parts give unrelated seeds, on every machine the same.

    `seed + epoch` would make epoch 1 of seed 42 equal epoch 0 of seed 43; a digest does not.
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def set_seed(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators (those of all accelerators too)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def capture() -> dict[str, Tensor]:
    """The state of every generator as tensors of bytes, ready for a safetensors file."""
    version, words, spare = random.getstate()
    kind, keys, position, has_spare, numpy_spare = np.random.get_state(legacy=True)
    if version != 3 or kind != "MT19937":
        raise TrainingError(
            f"the state of the random generators cannot be saved: Python's has version {version} and NumPy's global "
            f"generator is {kind!r}; plait knows version 3 and 'MT19937'."
        )
    python = np.array([*words, spare is not None], np.uint32).tobytes() + np.float64(spare or 0.0).tobytes()
    numpy = np.array([*keys, position, has_spare], np.uint32).tobytes() + np.float64(numpy_spare).tobytes()
    states = {"python": _tensor(python), "numpy": _tensor(numpy), "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore(states: Mapping[str, Tensor]) -> None:
    """Put every generator back into the state that `capture` gave."""
    python, numpy = (states[name].numpy().tobytes() for name in ("python", "numpy"))
    words = np.frombuffer(python[:-8], np.uint32).tolist()
    spare = np.frombuffer(python[-8:], np.float64)[0]
    random.setstate((3, tuple(words[: _WORDS + 1]), float(spare) if words[-1] else None))
    words = np.frombuffer(numpy[:-8], np.uint32)
    position, has_spare = int(words[_WORDS]), int(words[_WORDS + 1])
    spare = np.frombuffer(numpy[-8:], np.float64)[0]
    np.random.set_state(("MT19937", words[:_WORDS], position, has_spare, float(spare)))
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


@contextmanager
def forked(seed: int) -> Iterator[None]:
    """Draw from generators seeded with `seed` inside the block; outside, nothing has been drawn.

    The accelerators' generators are left alone: what runs inside (data sets, collators) works on the CPU.
    """
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)


def _tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)
