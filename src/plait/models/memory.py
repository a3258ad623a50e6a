"""Memory that a forward frees and takes again, complete for the allocator of glibc.

A forward makes and frees tensors of a megabyte or so all the time. glibc gives such blocks back to the system at once,
and takes new pages for the next one, each a fault that costs as much as to fill it: a fifth of the time of a forward on
a CPU. It does so for blocks above a threshold, which it raises, up to 32 MiB, to the largest block that was freed.
"""

from __future__ import annotations

import torch

# The most that the threshold follows, less what the allocator adds to a block.
LARGEST = (32 << 20) - (1 << 16)


def keep_freed_memory() -> None:
    """Let freed blocks of up to 32 MiB, and 64 MiB in all, stay with the process for the next tensor.

    Frees one block that nothing was written to, which costs no memory. Other allocators take no notice of it.
    """
    torch.empty(LARGEST, dtype=torch.uint8)
