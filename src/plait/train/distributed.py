"""Several processes under torchrun, complete: joining, and the four exchanges that training and evaluation need.

Gradients are sums here, so summing them over processes and dividing once by the summed count gives the gradient of the
whole batch, however unevenly its rows fell. (DistributedDataParallel averages, which is right for equal shares alone.)
"""

from __future__ import annotations

import atexit
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from plait import settings

_DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip
_DIMENSIONS = 8
_BUCKET_BYTES = 32 * 2**20  # one exchange per so many bytes of gradients: few enough messages, little extra memory


@dataclass(frozen=True)
class Processes:
    """The processes that train together, seen from one of them."""

    rank: int = 0
    count: int = 1
    device: torch.device = torch.device("cpu")  # where exchanged tensors must lie

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """`tensor` replaced by its sum over all processes."""
        if self.count > 1:
            distributed.all_reduce(tensor)
        return tensor

    def barrier(self) -> None:
        """Wait until every process has come here."""
        if self.count > 1:
            distributed.barrier()

    def agree(self, module: nn.Module) -> None:
        """Give every process the parameters and buffers of the main one."""
        if self.count > 1:
            with torch.no_grad():
                for tensor in [*module.parameters(), *module.buffers()]:
                    distributed.broadcast(tensor.detach(), src=0)

    def sum_gradients(self, parameters: Sequence[nn.Parameter], used: Sequence[bool]) -> None:
        """Sum the gradients of those parameters that some process used; a process without one adds zeros.

        `used` must be equal on all processes. A parameter used by none keeps no gradient, as with one process.
        """
        if self.count == 1:
            return
        chosen = [p for p, flag in zip(parameters, used, strict=True) if flag]
        for p in chosen:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        for bucket in _buckets([p.grad for p in chosen if p.grad is not None]):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            distributed.all_reduce(flat)
            for gradient, part in zip(bucket, torch.split(flat, [g.numel() for g in bucket]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def gather(self, tensor: Tensor | None) -> list[Tensor]:
        """The tensors of all processes, on the CPU and in the order of ranks; a process with None adds nothing.

        Shapes and dtypes may differ: each goes as bytes, after a header that describes it.
        """
        if self.count == 1:
            return [] if tensor is None else [tensor.cpu()]
        headers = [row.tolist() for row in self._exchange(_header(tensor))]
        longest = max(header[1] for header in headers)
        data = torch.zeros(longest, dtype=torch.uint8)
        if tensor is not None:
            data[: tensor.nbytes] = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        return [
            part[: header[1]].clone().view(_DTYPES[header[0]]).reshape(header[3 : 3 + header[2]])
            for header, part in zip(headers, self._exchange(data), strict=True)
            if header[0] >= 0
        ]

    def _exchange(self, tensor: Tensor) -> list[Tensor]:
        mine = tensor.to(self.device)
        parts = [torch.empty_like(mine) for _ in range(self.count)]
        distributed.all_gather(parts, mine)
        return [part.cpu() for part in parts]


def _header(tensor: Tensor | None) -> Tensor:
    """[index of the dtype or -1, bytes, dimensions, shape …] int64."""
    header = torch.zeros(3 + _DIMENSIONS, dtype=torch.int64)
    header[0] = -1
    if tensor is not None:
        about = [_DTYPES.index(tensor.dtype), tensor.nbytes, tensor.dim(), *tensor.shape]
        header[: len(about)] = torch.tensor(about)
    return header


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients in their order, cut where the dtype changes or a bucket is full."""
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        if bucket and (gradient.dtype != bucket[0].dtype or size >= _BUCKET_BYTES):
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.nbytes
    if bucket:
        yield bucket


def join(device: torch.device) -> Processes:
    """The processes of this torchrun launch, joined over NCCL on CUDA and Gloo elsewhere; without one, this alone."""
    launch = settings.torchrun()
    if launch.processes == 1:
        return Processes()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(_leave)
    return Processes(launch.rank, launch.processes, device)


def _leave() -> None:
    """Leave the group before the interpreter goes: its threads would otherwise end the process with an abort."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
