"""What rules do to tensors: by hand on small numbers, inverse bit for bit, and refusing what does not fit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.errors import WeightsError
from plait.weights.operations import Concat, Operation, PermuteRope, Row, Shift, Split, Stack, Transpose


def numbers(*shape: int) -> torch.Tensor:
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).view(shape)


class TestOperations:
    def test_split(self) -> None:
        parts = Split(sizes=(2, 1, 1)).to_ours([numbers(8, 3)])
        assert [part.tolist() for part in parts] == [
            numbers(8, 3)[:4].tolist(),
            numbers(8, 3)[4:6].tolist(),
            numbers(8, 3)[6:].tolist(),
        ]
        assert parts[1].data_ptr() == parts[0].data_ptr() + 4 * 3 * 4  # views of one tensor
        assert [part.tolist() for part in Split(sizes=(1, 1), dim=-1).to_ours([numbers(2, 4)])] == [
            [[0, 1], [4, 5]],
            [[2, 3], [6, 7]],
        ]

    def test_split_of_blocks(self) -> None:
        """Two heads of width 2, each with query, key and value together: q0 k0 v0 q1 k1 v1."""
        query, key, value = Split(sizes=(1, 1, 1), blocks=2).to_ours([numbers(12)])
        assert query.tolist() == [0, 1, 6, 7]
        assert key.tolist() == [2, 3, 8, 9]
        assert value.tolist() == [4, 5, 10, 11]

    def test_permute_rope(self) -> None:
        """One head of width 6: neighbours (0,1) (2,3) (4,5) become the pairs of the halves."""
        assert PermuteRope(heads=1).to_ours([numbers(6)])[0].tolist() == [0, 2, 4, 1, 3, 5]
        assert PermuteRope(heads=2).to_ours([numbers(8)])[0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]

    def test_row(self) -> None:
        assert Row().to_ours([numbers(1, 3)])[0].tolist() == [0, 1, 2]
        assert Row().to_theirs([numbers(3)])[0].tolist() == [[0, 1, 2]]
        with pytest.raises(WeightsError, match=r"\(2, 3\) is not a matrix of one row"):
            Row().to_ours([numbers(2, 3)])

    def test_shift(self) -> None:
        assert Shift(by=1.0).to_ours([numbers(3)])[0].tolist() == [-1, 0, 1]
        assert Shift(by=1.0).to_theirs([numbers(3)])[0].tolist() == [1, 2, 3]

    def test_transpose_and_stack(self) -> None:
        assert Transpose().to_ours([numbers(2, 3), numbers(3)])[0].tolist() == [[0, 3], [1, 4], [2, 5]]
        assert Transpose().to_ours([numbers(3)])[0].tolist() == [0, 1, 2]
        assert Stack(count=2).to_ours([numbers(2), numbers(2) + 5])[0].tolist() == [[0, 1], [5, 6]]

    @settings(deadline=None)  # the first call waits for torch's kernels
    @given(
        data=st.data(),
        sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple),
        blocks=st.integers(1, 3),
        unit=st.integers(1, 3),
        dim=st.sampled_from([0, 1, -1, -2]),
        dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.int64]),
    )
    def test_inverses(
        self, data: st.DataObject, sizes: tuple[int, ...], blocks: int, unit: int, dim: int, dtype: torch.dtype
    ) -> None:
        shape = [data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))]
        shape[dim] = sum(sizes) * blocks * unit
        shape[0] *= 4
        theirs = torch.randint(-100, 100, shape).to(dtype)
        split_operation = Split(sizes=sizes, dim=dim, blocks=blocks)
        parts = split_operation.to_ours([theirs])
        for operation, start in (
            (split_operation, [theirs]),
            (Concat(sizes=sizes, dim=dim, blocks=blocks), parts),
            (Transpose(), [theirs]),
            (Row(), [theirs[:1, :, 0]]),
            (PermuteRope(heads=2), [theirs]),
            (Stack(count=3), [theirs, theirs + 1, theirs + 2]),
        ):
            check_inverse(operation, start)

    @pytest.mark.parametrize(
        ("operation", "tensors", "text"),
        [
            (Split(sizes=(1, 1)), [numbers(3)], r"dimension 0 of \(3,\) does not divide into 1 × \(1, 1\)"),
            (Split(sizes=(1, 1), dim=1), [numbers(4)], r"\(4,\) has no dimension 1"),
            (
                Concat(sizes=(1, 1)),
                [numbers(2), numbers(3)],
                r"lengths \[2, 3\] along dimension 0 are not 1 × \(1, 1\)",
            ),
            (Concat(sizes=(1, 1)), [numbers(2, 2), numbers(2, 3)], r"differ: \(2, 2\) float32, \(2, 3\) float32"),
            (Stack(count=2), [numbers(2), numbers(2).half()], r"differ: \(2,\) float16, \(2,\) float32"),
            (PermuteRope(heads=2), [numbers(6)], r"dimension 0 of \(6,\) does not divide into 2 heads of rotary pairs"),
        ],
    )
    def test_shapes_that_do_not_fit(self, operation: Operation, tensors: list[torch.Tensor], text: str) -> None:
        with pytest.raises(WeightsError, match=text):
            operation.to_ours(tensors)
        with pytest.raises(WeightsError, match=text):
            operation.to_ours([tensor.to("meta") for tensor in tensors])

    def test_stack_of_another_count(self) -> None:
        with pytest.raises(WeightsError, match=r"\(3, 2\) is not a stack of 2 tensors"):
            Stack(count=2).to_theirs([numbers(3, 2)])


def check_inverse(operation: Operation, theirs: list[torch.Tensor]) -> None:
    ours = operation.to_ours(theirs)
    back = operation.to_theirs(ours)
    assert len(back) == len(theirs)
    for tensor, expected in zip(back, theirs, strict=True):
        assert tensor.dtype == expected.dtype
        assert torch.equal(tensor, expected)
    # Shapes are learned on tensors without data.
    shapes = [tensor.shape for tensor in operation.to_ours([tensor.to("meta") for tensor in theirs])]
    assert shapes == [tensor.shape for tensor in ours]
