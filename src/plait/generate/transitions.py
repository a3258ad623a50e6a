"""How sure a model was of each token that it wrote, complete: read from what `generate` recorded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from plait.errors import OptionError


def transition_scores(
    sequences: Tensor, scores: Sequence[Tensor], *, beam_indices: Tensor | None = None, normalize_logits: bool = False
) -> Tensor:
    """The score of each new token of `sequences` (B, T + n): (B, n), 0 behind the end of an answer of beam search.

    `scores`, n tensors (rows, V), and `beam_indices` (B, n), which row of them scored each token, are those that
    `generate(…, return_dict_in_generate=True, output_scores=True)` returns; without `beam_indices` each sequence is a
    row. `normalize_logits` makes log-probabilities of scores that are none. Raises OptionError for parts that do not
    belong to each other.
    """
    if not scores:
        raise OptionError("There are no scores: pass output_scores=True and return_dict_in_generate=True to generate.")
    if beam_indices is None:
        rows = torch.arange(len(scores[0]), device=sequences.device)
        beam_indices = rows[:, None].expand(-1, len(scores))
    if len(beam_indices) != len(sequences) or not 0 < beam_indices.shape[1] <= min(len(scores), sequences.shape[1]):
        raise OptionError(
            f"Sequences {tuple(sequences.shape)}, {len(scores)} scores of {tuple(scores[0].shape)} and beam_indices "
            f"{tuple(beam_indices.shape)} do not belong to each other: pass all three of one call of generate, "
            "beam_indices whenever it had beams."
        )
    origins, written = beam_indices.clamp(min=0), beam_indices >= 0
    new = sequences[:, sequences.shape[1] - origins.shape[1] :]  # (B, n)
    steps = []
    for step, (rows, tokens) in enumerate(zip(origins.unbind(dim=1), new.unbind(dim=1), strict=True)):
        of_step = scores[step][rows]  # (B, V)
        if normalize_logits:
            of_step = of_step.log_softmax(dim=-1)
        steps.append(of_step.gather(1, tokens[:, None]))
    return torch.cat(steps, dim=1).masked_fill(~written, 0.0)
