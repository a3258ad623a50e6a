"""How sure a model was of each token, by hand."""

from __future__ import annotations

import pytest
import torch

from plait.errors import OptionError
from plait.generate.transitions import transition_scores

# Two steps, three rows, two tokens in the vocabulary.
SCORES = (
    torch.tensor([[-0.1, -2.0], [-0.2, -3.0], [-0.3, -4.0]]),
    torch.tensor([[-0.5, -5.0], [-0.6, -6.0], [-0.7, -7.0]]),
)


def test_each_token_has_the_score_of_the_row_that_chose_it() -> None:
    sequences = torch.tensor([[9, 9, 1, 0], [9, 9, 0, 1]])
    got = transition_scores(sequences, SCORES, beam_indices=torch.tensor([[2, 0], [1, -1]]))
    torch.testing.assert_close(got, torch.tensor([[-4.0, -0.5], [-0.2, 0.0]]))
    short = transition_scores(sequences[:, :3], SCORES, beam_indices=torch.tensor([[2], [1]]))
    torch.testing.assert_close(short, torch.tensor([[-4.0], [-0.2]]))


def test_without_beams_a_sequence_is_a_row() -> None:
    sequences = torch.tensor([[9, 1, 0], [9, 0, 1], [9, 0, 0]])
    got = transition_scores(sequences, SCORES)
    torch.testing.assert_close(got, torch.tensor([[-2.0, -0.5], [-0.2, -6.0], [-0.3, -0.7]]))
    normal = transition_scores(sequences, SCORES, normalize_logits=True)
    # log softmax of (-0.1, -2) at 1 is -1.9 - log(1 + exp(-1.9)); of (-0.5, -5) at 0 it is -log(1 + exp(-4.5)).
    torch.testing.assert_close(normal[0], torch.tensor([-2.0393, -0.0110]), rtol=0, atol=1e-4)


def test_parts_that_do_not_belong_to_each_other() -> None:
    with pytest.raises(OptionError, match="There are no scores: pass output_scores=True and return_dict_in_generate="):
        transition_scores(torch.tensor([[1, 0]]), ())
    with pytest.raises(OptionError, match=r"Sequences \(1, 3\), 2 scores of \(3, 2\) and beam_indices \(3, 2\) do not"):
        transition_scores(torch.tensor([[9, 1, 0]]), SCORES)  # of one answer of beam search, beam_indices left out
    with pytest.raises(OptionError, match="do not belong to each other"):
        transition_scores(torch.tensor([[9, 1, 0]]), SCORES, beam_indices=torch.zeros(1, 3).long())
