"""Which floating type this CPU multiplies soonest, complete: measured once, by a few products.

bfloat16 has half the bytes of float32, but only some CPUs multiply it in hardware; on others it takes several times as
long. No table of models tells that as surely as one product.
"""

from __future__ import annotations

import time
from functools import cache

import torch

# As many rows as a prompt of middle length has, and a matrix of a layer of a small model.
ROWS, WIDTH, TRIES = 64, 1024, 10


@cache
def fastest() -> torch.dtype:
    """torch.bfloat16, unless this CPU multiplies float32 sooner."""
    dtypes = (torch.bfloat16, torch.float32)
    # In turn, and the shortest of each: others who use the CPU for a while then slow down both.
    times = [[seconds(dtype) for dtype in dtypes] for _ in range(TRIES)]
    halves, wholes = (min(column) for column in zip(*times, strict=True))
    return torch.bfloat16 if halves <= wholes else torch.float32


def seconds(dtype: torch.dtype) -> float:
    """The time of one product of that type."""
    x, weight = torch.ones(ROWS, WIDTH, dtype=dtype), torch.ones(WIDTH, WIDTH, dtype=dtype)
    start = time.perf_counter()
    torch.nn.functional.linear(x, weight)
    return time.perf_counter() - start
