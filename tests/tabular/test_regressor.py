"""FrozenRegressor computes head(backbone(adapter(x))), and only the adapter and the head learn."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from stand_in import Doubling
from torch import Tensor, nn

from plait.errors import ConfigError, DataError
from plait.models.auto import AutoConfig, AutoModel
from plait.nn.transposed import held
from plait.tabular import FrozenRegressor
from plait.tabular.regressor import fingerprint


def regressor(**options: object) -> FrozenRegressor:
    """adapter: x -> (x0, x1, x0 + x1); backbone: × 2; head: the sum plus 1. So f(x) = 4 (x0 + x1) + 1."""
    model = FrozenRegressor(Doubling(**options), 2)
    model.load_trained_state(
        {
            "adapter.weight": torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]),
            "adapter.bias": torch.zeros(3),
            "head.weight": torch.ones(1, 3),
            "head.bias": torch.ones(1),
        }
    )
    return model


def test_values_and_loss_by_hand() -> None:
    output = regressor()(torch.tensor([[1.0, 2.0], [0.5, -1.0]]), labels=torch.tensor([12.0, 0.0]))
    assert output.logits.tolist() == [13.0, -1.0]
    assert output.loss_terms.total.item() == 2.0  # (13 - 12)² + (-1 - 0)²
    assert output.loss_terms.count.item() == 2.0
    assert output.loss.item() == 1.0


def test_without_labels_there_is_no_loss() -> None:
    output = regressor()(torch.zeros(1, 2))
    assert output.logits.tolist() == [1.0]
    assert output.loss is None


def test_only_adapter_and_head_learn_and_the_backbone_never_drops() -> None:
    model = regressor()
    model.train()
    assert model.training
    assert not model.backbone.training
    assert not model.backbone.dropout.training
    loss = model(torch.tensor([[1.0, 2.0]]), labels=torch.tensor([12.0])).loss
    loss.backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {"adapter.weight", "adapter.bias", "head.weight", "head.bias"} == set(model.trained_state())
    # d loss / d head.bias = 2 (13 - 12); through the backbone, d loss / d adapter.bias = 2 · 2 · 1 for each of three.
    assert model.head.bias.grad.tolist() == [2.0]
    assert model.adapter.bias.grad.tolist() == [4.0, 4.0, 4.0]


def test_several_targets_keep_their_columns() -> None:
    model = FrozenRegressor(Doubling(), 2, targets=2)
    with torch.no_grad():
        model.adapter.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
        model.adapter.bias.zero_()
        model.head.weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
        model.head.bias.zero_()
    output = model(torch.tensor([[1.0, 5.0]]), labels=torch.tensor([[2.0, 7.0]]))
    assert output.logits.tolist() == [[2.0, 10.0]]
    assert output.loss_terms.total.item() == 9.0
    assert output.loss_terms.count.item() == 2.0


def test_head_and_loss_are_float32_around_a_bfloat16_backbone() -> None:
    model = regressor(dtype=torch.bfloat16)
    with torch.no_grad():
        model.head.bias.fill_(1234.5)  # 1232 in bfloat16
    output = model(torch.zeros(1, 2), labels=torch.tensor([1237.5]))
    assert output.logits.dtype == torch.float32
    assert output.logits.item() == 1234.5
    assert output.loss.item() == 9.0


def test_shapes_that_would_broadcast_are_refused() -> None:
    model = regressor()
    with pytest.raises(DataError, match=r"labels have the shape \(4, 1\), predictions \(4,\)"):
        model(torch.zeros(4, 2), labels=torch.zeros(4, 1))
    with pytest.raises(DataError, match=r"input_features must be \(rows, 2\), not \(4, 3\)"):
        model(torch.zeros(4, 3))


def test_a_backbone_of_unknown_width_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="the width of Identity is unknown: it has no config.hidden_size; pass width="
    ):
        FrozenRegressor(nn.Identity(), 2)
    assert FrozenRegressor(nn.Identity(), 2, width=5).adapter.out_features == 5


def test_the_fingerprint_sees_every_bit_and_no_name_is_free() -> None:
    assert fingerprint(Doubling()) == fingerprint(Doubling())
    assert fingerprint(Doubling()) != fingerprint(Doubling(scale=2.0000002))
    assert fingerprint(Doubling()) != fingerprint(Doubling(dtype=torch.bfloat16))
    assert fingerprint(nn.Linear(2, 2).requires_grad_(False)) != fingerprint(nn.Linear(2, 2))


# --- transposed -------------------------------------------------------------------------------------------------------

has_bfloat16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
DTYPES = [torch.float32, *([torch.bfloat16] if has_bfloat16 else [])]
ROWS = 12


def qwen(dtype: torch.dtype = torch.float32) -> Any:
    """Two layers, 48 wide, of random numbers that matter."""
    config = AutoConfig.for_model(
        "qwen2", vocab_size=30, hidden_size=48, intermediate_size=112, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=16,
    )  # fmt: skip
    model = AutoModel.from_config(config)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.2, generator=draw)
    return model.to(dtype)


def held_matrices(model: FrozenRegressor) -> list[str]:
    return [name for name, parameter in model.backbone.named_parameters() if held(parameter) is not None]


def gradients(model: FrozenRegressor) -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    model.zero_grad()
    model(torch.randn(ROWS, 4, generator=draw), labels=torch.randn(ROWS, generator=draw)).loss.backward()
    return [parameter.grad.clone() for parameter in (*model.adapter.parameters(), *model.head.parameters())]


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_through_transposed_matrices(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    models = [FrozenRegressor(qwen(dtype), 4, transposed=transposed) for transposed in (False, True)]
    models[1].load_trained_state(models[0].trained_state())
    assert held_matrices(models[0]) == []
    assert held_matrices(models[1]) == [
        f"layers.{layer}.{name}.weight"
        for layer in (0, 1)
        for name in ("self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    ]
    exact = FrozenRegressor(qwen(dtype).double(), 4)
    exact.load_trained_state(models[0].trained_state())
    plain, found, expected = (gradients(each) for each in (*models, exact))
    apart = [relative(*pair) for pair in zip(found, plain, strict=True)]
    errors = [[relative(*pair) for pair in zip(each, expected, strict=True)] for each in (plain, found)]
    if dtype == torch.float32:
        # The same products, summed in the same order or another: sums of about a hundred numbers of seven digits.
        assert max(apart) < 1e-6, apart
        assert max(errors[1]) < 1e-5, errors
    else:
        # Each of some forty results on the way is rounded by up to 2^-9: as far off as without, give or take a half.
        assert all(with_ < 1.5 * without + 1e-3 for without, with_ in zip(*errors, strict=True)), errors
        assert max(errors[1]) < 0.1, errors


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def test_released_matrices() -> None:
    model = FrozenRegressor(qwen(), 4, transposed=True)
    before = gradients(model)
    model.release_transposed()
    assert held_matrices(model) == []
    torch.testing.assert_close(gradients(model), before, rtol=1e-5, atol=1e-6)


def test_where_the_backbone_is_moved_cast_changed_or_copied(caplog: pytest.LogCaptureFixture) -> None:
    model = FrozenRegressor(qwen(), 4, transposed=True).to("cpu")
    assert len(held_matrices(model)) == 8
    assert len(held_matrices(copy.deepcopy(model))) == 0
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING):
        model.backbone.to(torch.float64)
        assert caplog.text == ""  # what happens to the backbone alone is seen with the next look at it
        assert held_matrices(model) == []
    model = FrozenRegressor(qwen(), 4, transposed=True)
    with caplog.at_level(logging.WARNING):
        model.to(torch.float64)
    assert "The backbone was moved or cast: transposed=True has no effect any more." in caplog.text
    assert not any(vars(parameter) for parameter in model.parameters()), "the memory is given back"

    model = FrozenRegressor(qwen(), 4, transposed=True)
    other = FrozenRegressor(qwen(), 4)
    for each in (model, other):
        with torch.no_grad():
            each.backbone.network.stack.layers[0].mlp.up.weight.mul_(3)
    other.load_trained_state(model.trained_state())
    torch.testing.assert_close(gradients(model), gradients(other), rtol=1e-5, atol=1e-6)
    assert len(held_matrices(model)) == 7


def test_what_is_held_is_in_no_state_and_no_file(tmp_path: Path) -> None:
    plain, model = (FrozenRegressor(qwen(), 4, transposed=transposed) for transposed in (False, True))
    assert list(model.state_dict()) == list(plain.state_dict())
    assert fingerprint(model.backbone) == fingerprint(plain.backbone)
    for each, name in ((plain, "plain"), (model, "held")):
        each.backbone.save_pretrained(tmp_path / name)
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("plain", "held")]
    assert files[0] == files[1]


def test_what_cannot_be_held_transposed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(backbone: nn.Module, text: str) -> None:
        with pytest.raises(ConfigError, match=text):
            FrozenRegressor(backbone, 4, width=48, transposed=True)
        assert all(held(parameter) is None for parameter in backbone.parameters())

    refused(Doubling(), "of plait's own layers, of which Doubling has none. Open the backbone with plait.AutoModel")
    qwen().save_pretrained(tmp_path)
    few_bits = AutoModel.from_pretrained(tmp_path, quantize="int8")
    on_disk = AutoModel.from_pretrained(tmp_path, device_map={"": "disk"})
    refused(
        on_disk, r"the matrix \S+output is on 'meta' or on disk. Load the backbone into memory, or leave transposed"
    )
    refused(qwen().to("meta"), r"the matrix \S+output is on 'meta' or on disk. Load the backbone into memory, or leave")
    refused(
        qwen().double(), "is float64. Load the backbone with dtype='float32' or 'bfloat16', or leave transposed out"
    )
    refused(few_bits, "output is a QuantisedLinear, or watched by a hook. Load the backbone without quan")
    watched = qwen()
    watched.network.stack.layers[1].mlp.down.register_forward_hook(lambda *_: None)
    refused(watched, "layers.1.mlp.down is a Linear, or watched by a hook")
    with torch.inference_mode():
        uncounted = qwen()
    refused(uncounted, "was made in inference mode, where changes are not counted. Load the backbone outside of it")

    monkeypatch.setattr("plait.tabular.regressor.few", lambda *_, **__: False)
    with caplog.at_level(logging.WARNING):
        model = FrozenRegressor(qwen(), 4, transposed=True)
    assert "transposed=True has no effect: this CPU has no product for few float32 vectors." in caplog.text
    assert held_matrices(model) == []
