"""What a load costs in memory, measured in fresh processes by the kernel's high-water mark of resident pages.

One file of 16 tensors of 2048 × 4608 in bfloat16: 302 MB, of which the factor 1.05 leaves 15 MB for Python's own
objects and modules, and for code of torch that was not touched before.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from subprocess import run

import gguf
import numpy as np
import pytest
import torch

from plait.weights.save import save_state

SHAPE, COUNT = (2048, 4608), 16
TENSOR = SHAPE[0] * SHAPE[1] * 2

PROGRAM = """
import json, sys
from pathlib import Path
import torch
from torch import nn
from plait.weights.checkpoint import open_checkpoint
from plait.weights.load import load_into
from plait.weights.rules import Rules, rename, split, transpose
from plait.weights.save import save_state

rows, columns = 2048, 4608
job, folder, count, small = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]

def status(field):
    line = next(line for line in open("/proc/self/status") if line.startswith(field))
    return int(line.split()[1]) * 1024

def warm_up():  # the kernels that are used below, so that their code is in memory before the measurement
    for file in small:
        open_checkpoint(Path(file)).tensor("w.0").sum()
    x = torch.zeros(64, 64, dtype=torch.bfloat16)
    x.view(torch.int64).sum(), x.float().sum(), x.T.contiguous(), x.add_(1)

class Model(nn.Module):
    def __init__(self, parts):
        super().__init__()
        shape = {1: (rows, columns), 3: (columns // 3, rows)}[parts]
        self.layers = nn.ParameterList([nn.Parameter(torch.empty(shape)) for _ in range(count * parts)])

warm_up()
with torch.device("meta"):
    model = Model(3 if job == "transpose" else 1)
rules = Rules(rename("w.{i}", "layers.{i}"))
if job == "transpose":
    rules = Rules(*(transpose(split(f"w.{i}", [f"layers.{3 * i + j}" for j in range(3)])) for i in range(count)))
open("/proc/self/clear_refs", "w").write("5")  # the high-water mark starts from here
before = status("VmHWM")
dtype = torch.float32 if job == "convert" else None
checkpoint = open_checkpoint(folder)
load_into(model, checkpoint, rules, dtype=dtype)
if job == "train":
    for parameter in model.parameters():
        parameter.data.add_(1)
elif job == "save":
    save_state({f"w.{i}": p.data for i, p in enumerate(model.parameters())}, folder / "again", max_shard_size="100MB")
else:
    for parameter in model.parameters():
        parameter.data.view(torch.int64).sum()  # int64, so that the sum itself makes no wider copy
print(json.dumps({"grown": status("VmHWM") - before}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    generator = torch.Generator().manual_seed(0)
    draw = torch.randint(-3000, 3000, SHAPE, generator=generator).to(torch.bfloat16)
    save_state({f"w.{index}": draw + index for index in range(COUNT)}, folder)
    return folder


def grown(job: str, folder: Path, count: int, *small: Path) -> int:
    command = [sys.executable, "-c", PROGRAM, job, str(folder), str(count), *map(str, small)]
    result = run(command, capture_output=True, text=True, check=True)
    return int(json.loads(result.stdout)["grown"])


@pytest.mark.parametrize(
    ("job", "bound"),
    [
        # Loaded and every weight read: the file, once.
        ("touch", 1.05 * COUNT * TENSOR),
        # Every page written to: a private page takes the place of the file's page.
        ("train", 1.05 * COUNT * TENSOR),
        # Twice as wide in memory: the result, and one tensor of the file at a time.
        ("convert", 1.05 * 2 * COUNT * TENSOR),
        # Transposed and cut in three: the result, and one tensor of the file at a time.
        ("transpose", 1.05 * COUNT * TENSOR + TENSOR),
        # Saved again: nothing more than what is loaded, since contiguous tensors are written from where they are.
        ("save", 1.05 * COUNT * TENSOR),
    ],
)
def test_peak(folder: Path, job: str, bound: float) -> None:
    measured = grown(job, folder, COUNT)
    assert measured >= 0.95 * COUNT * TENSOR, "the measurement must see the weights"
    assert measured <= bound


def quantised(path: Path, rows: int, count: int) -> Path:
    """A GGUF file of `count` tensors of Q8_0, each `rows` × 4608."""
    raw = np.random.default_rng(0).integers(0, 64, (rows, SHAPE[1] // 32 * 34), dtype=np.uint8)
    writer = gguf.GGUFWriter(path, "test")
    for index in range(count):
        writer.add_tensor(f"w.{index}", raw, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_peak_of_decoding(tmp_path: Path) -> None:
    """Quantised weights become float32: the result, one packed tensor at a time, and four temporaries of 2^18 numbers.

    A small file is decoded before the measurement: the code that decodes is about 10 MB of pages, once per process.
    """
    count = 10
    large = quantised(tmp_path / "model.gguf", SHAPE[0], count)
    small = quantised(tmp_path / "small.gguf", 64, 1)
    result, packed, temporaries = count * 2 * TENSOR, TENSOR // 2 * 34 // 32, 4 * 4 * 2**18
    measured = grown("touch", large, count, small)
    assert 0.95 * result <= measured <= 1.05 * result + packed + temporaries
