"""What is done with a loaded model: more words, shared weights, less memory in training, counting, describing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from plait.errors import OptionError
from plait.models import auto
from plait.models.auto import AutoModelForCausalLM
from plait.models.config import Config
from plait.models.files import new_model
from plait.models.model import PretrainedModel
from plait.models.pretrained import Pretrained
from plait.nn.linear import Embedding
from plait.train import Trainer, TrainingArguments

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_hidden_layers": 4}
BERT = {"model_type": "bert", **SIZES}
LLAMA = {"model_type": "llama", **SIZES, "num_key_value_heads": 2}
T5 = {"model_type": "t5", "d_kv": 8, "d_ff": 40, "d_model": 16, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0}
BART = {"model_type": "bart", "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "max_position_embeddings": 20}
BART |= {"encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
BART |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "forced_eos_token_id": 2}
CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "untied": (LLAMA, "causal_lm", "AutoModelForCausalLM"),
    "tied": ({**LLAMA, "tie_word_embeddings": True}, "causal_lm", "AutoModelForCausalLM"),
    "tied with a bias": (BERT, "masked_lm", "AutoModelForMaskedLM"),
    "without scores": (BERT, "sequence_classification", "AutoModelForSequenceClassification"),
    "two stacks": (T5, "seq2seq_lm", "AutoModelForSeq2SeqLM"),
    "two stacks with a bias": (BART, "seq2seq_lm", "AutoModelForSeq2SeqLM"),
}


def model_of(values: dict[str, Any] = LLAMA, task: str = "causal_lm", **more: Any) -> Any:
    torch.manual_seed(0)
    config = Config({**values, "vocab_size": 29, "initializer_range": 0.3, **more})
    model = new_model(config, task=task).eval()
    with torch.no_grad():  # biases begin at 0: as numbers of their own they can be told apart
        for name, part in model.named_parameters():
            if name.endswith("bias"):
                part.normal_()
    return model


def ids(words: int, rows: int = 2, tokens: int = 7) -> Tensor:
    return torch.randint(3, words, (rows, tokens), generator=torch.Generator().manual_seed(1))


def scores(model: Any, tokens: Tensor) -> Tensor:
    more = {"decoder_input_ids": tokens} if hasattr(model, "get_encoder") else {}
    with torch.no_grad():
        logits: Tensor = model(tokens, **more).logits
    return logits


# -- another size of vocabulary ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_more_words_keep_the_old_ones_and_load_everywhere(case: str, tmp_path: Path) -> None:
    values, task, loader = CASES[case]
    model = model_of(values, task)
    table = model.get_input_embeddings().weight.detach().clone()
    before = scores(model, ids(29))
    assert model.resize_token_embeddings(33, pad_to_multiple_of=8) is model.get_input_embeddings()
    grown = model.get_input_embeddings().weight
    assert grown.shape == (40, 16)
    assert model.config.vocab_size == 40
    assert torch.equal(grown[:29], table)
    assert torch.equal(grown[29:], table.mean(dim=0).expand(11, 16))
    # What was said before is said again: the old words have the old scores. Sums of 16 products in another order of
    # the kernel differ by a few roundings of 6e-8.
    words = 29 if task != "sequence_classification" else 2
    torch.testing.assert_close(scores(model, ids(29))[..., :words], before, rtol=0, atol=1e-5)
    head = model.get_output_embeddings()
    if head is not None:
        assert head.weight.shape == (40, 16)
        assert (head.weight is grown) == (case != "untied")
        if head.bias is not None:
            assert torch.equal(head.bias[29:], head.bias[:29].mean().expand(11))
    model.save_pretrained(tmp_path)
    expected = scores(model, ids(40))
    again = getattr(auto, loader).from_pretrained(tmp_path)
    assert again.config.vocab_size == 40
    assert torch.equal(scores(again, ids(40)), expected)
    other, report = getattr(transformers, loader).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    torch.testing.assert_close(scores(other.eval(), ids(40)), expected, rtol=1e-5, atol=1e-5)


def test_new_words_are_drawn_as_the_family_draws_them() -> None:
    model = model_of(hidden_size=64, num_attention_heads=4)
    torch.manual_seed(5)
    model.resize_token_embeddings(1029, mean_resizing=False)
    for part in (model.get_input_embeddings(), model.get_output_embeddings()):
        new = part.weight.detach()[29:]
        # 64,000 draws of N(0, 0.3): mean and deviation are within 4 standard errors, 0.3/√n and 0.3/√(2n).
        assert abs(float(new.mean())) < 4 * 0.3 / 64000**0.5
        assert abs(float(new.std()) - 0.3) < 4 * 0.3 / 128000**0.5


def test_fewer_words_and_none() -> None:
    model = model_of()
    table = model.get_input_embeddings().weight.detach().clone()
    assert model.resize_token_embeddings() is model.get_input_embeddings()
    assert model.get_input_embeddings().num_embeddings == 29
    model.resize_token_embeddings(pad_to_multiple_of=16)
    assert model.get_input_embeddings().num_embeddings == 32
    model.resize_token_embeddings(10)
    assert torch.equal(model.get_input_embeddings().weight, table[:10])
    assert model(ids(10)).logits.shape == (2, 7, 10)
    assert model(ids(10), labels=ids(10)).loss.isfinite()


def test_the_padding_may_go_with_the_words_that_are_dropped(tmp_path: Path) -> None:
    """Its row is not there any more, so it neither begins at zero nor stays without a gradient."""
    model = model_of({**LLAMA, "pad_token_id": 20})
    model.resize_token_embeddings(10)
    model(ids(10), labels=ids(10)).loss.backward()
    assert model.get_input_embeddings().padding_idx is None
    model.eval().save_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path)(ids(10)).logits, model(ids(10)).logits)


def test_frozen_words_stay_frozen_and_new_ones_can_be_trained() -> None:
    model = model_of(tie_word_embeddings=True).freeze()
    model.resize_token_embeddings(31)
    assert not model.get_input_embeddings().weight.requires_grad
    model.unfreeze()
    model(ids(31), labels=ids(31)).loss.backward()
    assert float(model.get_input_embeddings().weight.grad[30].abs().sum()) > 0


def test_what_cannot_be_resized_says_why() -> None:
    with pytest.raises(OptionError, match="`new_num_tokens` must be a whole number of at least 1, but is 0"):
        model_of().resize_token_embeddings(0)
    with pytest.raises(OptionError, match="`new_num_tokens` must be a whole number of at least 1, but is True"):
        model_of().resize_token_embeddings(True)
    with pytest.raises(OptionError, match="`pad_to_multiple_of` must be a whole number of at least 1, but is 2.5"):
        model_of().resize_token_embeddings(30, pad_to_multiple_of=2.5)
    config = Config({**LLAMA, "vocab_size": 29})
    with pytest.raises(OptionError, match="weights in memory, but this model's are on 'meta'"):
        new_model(config, task="causal_lm", device="meta").resize_token_embeddings(30)


# -- shared weights ----------------------------------------------------------------------------------------------------


def test_an_embedding_is_replaced_wherever_it_is_shared() -> None:
    for values, task in (
        (LLAMA, "causal_lm"),
        ({**LLAMA, "tie_word_embeddings": True}, "causal_lm"),
        (T5, "seq2seq_lm"),
    ):
        model = model_of(values, task)
        shared = model.get_output_embeddings().weight is model.get_input_embeddings().weight
        new = Embedding(29, 16)
        torch.nn.init.normal_(new.weight)
        model.set_input_embeddings(new)
        assert model.get_input_embeddings() is new
        assert (model.get_output_embeddings().weight is new.weight) == shared
        assert sum(part is new.weight for part in model.parameters()) == 1
    with pytest.raises(
        OptionError, match=r"must have the shape \(29, 16\), but has \(30, 16\).*resize_token_embeddings"
    ):
        model.set_input_embeddings(Embedding(30, 16))


def test_weights_that_were_parted_are_tied_again() -> None:
    for values, task in (({**LLAMA, "tie_word_embeddings": True}, "causal_lm"), (T5, "seq2seq_lm")):
        model = model_of(values, task)
        expected = scores(model, ids(29))
        head = model.get_output_embeddings()
        head.weight = torch.nn.Parameter(torch.zeros_like(head.weight))
        assert float(scores(model, ids(29)).abs().max()) == 0
        model.tie_weights()
        assert head.weight is model.get_input_embeddings().weight
        assert torch.equal(scores(model, ids(29)), expected)
    untied = model_of()
    head = untied.get_output_embeddings().weight
    untied.tie_weights()
    assert untied.get_output_embeddings().weight is head
    assert model_of({"model_type": "bert", **SIZES}, "base").get_output_embeddings() is None


# -- less memory in training -------------------------------------------------------------------------------------------


def kept_bytes(model: Pretrained, **inputs: Tensor) -> tuple[int, dict[str, Tensor], float]:
    """Bytes that a training forward keeps for the backward pass; the gradients, and the loss."""
    kept: dict[int, int] = {}
    own = {part.data_ptr() for part in model.parameters()}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    torch.manual_seed(3)  # the same dropout
    model.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = model.train()(**inputs).loss
    size = sum(kept.values())
    loss.backward()
    return (
        size,
        {name: part.grad.clone() for name, part in model.named_parameters() if part.grad is not None},
        float(loss.detach()),
    )


@pytest.mark.parametrize("case", ["llama", "bert with dropout", "t5"])
def test_recomputed_layers_give_the_same_gradients_from_less_memory(case: str) -> None:
    deep = {"num_hidden_layers": 8}
    values, task = {
        "llama": ({**LLAMA, **deep}, "causal_lm"),
        "bert with dropout": ({"model_type": "bert", **SIZES, **deep, "hidden_dropout_prob": 0.2}, "masked_lm"),
        "t5": ({**T5, "num_layers": 4}, "seq2seq_lm"),
    }[case]
    model = model_of(values, task)
    inputs = {"input_ids": ids(29, 4, 16), "labels": ids(29, 4, 16)}
    assert not model.is_gradient_checkpointing
    plain, expected, loss = kept_bytes(model, **inputs)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert model.is_gradient_checkpointing
    less, gradients, again = kept_bytes(model, **inputs)
    assert again == loss
    assert gradients.keys() == expected.keys()
    assert all(
        torch.equal(gradients[name], expected[name]) for name in expected
    )  # the same kernels on the same numbers
    # Of each layer its input is left, of a dozen tensors; embeddings and scores keep theirs.
    assert less < plain / 3, (less, plain)
    model.gradient_checkpointing_disable()
    assert kept_bytes(model, **inputs)[0] == plain
    assert not model.is_gradient_checkpointing


def test_the_balance_of_experts_is_never_trained() -> None:
    ranks = {"kv_lora_rank": 12, "q_lora_rank": 10, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4, "v_head_dim": 5}
    experts = {"n_routed_experts": 4, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2}
    values = {**SIZES, **ranks, **experts, "moe_intermediate_size": 6, "first_k_dense_replace": 1}
    model = model_of({"model_type": "deepseek_v3", **values, "num_key_value_heads": 4})
    trained = {name for name, part in model.named_parameters() if part.requires_grad}
    assert "model.layers.1.mlp.gate.e_score_correction_bias" not in trained
    assert trained == {name for name, part in model.freeze().unfreeze().named_parameters() if part.requires_grad}
    last = {name for name, part in model.freeze().unfreeze(last=1).named_parameters() if part.requires_grad}
    assert last < trained


def test_re_entering_is_refused() -> None:
    with pytest.raises(
        OptionError, match="'use_reentrant': True.* is not supported: layers are computed again without"
    ):
        model_of().gradient_checkpointing_enable({"use_reentrant": True})


def test_the_trainer_recomputes_when_asked(tmp_path: Path) -> None:
    rows = [{"input_ids": row, "labels": row} for row in ids(29, 4, 8)]
    trained = []
    for recomputes in (False, True):
        model = model_of()
        arguments = TrainingArguments(
            str(tmp_path / str(recomputes)),
            max_steps=3,
            per_device_train_batch_size=2,
            gradient_checkpointing=recomputes,
            save_strategy="no",
            report_to=[],
        )
        Trainer(model, arguments, train_dataset=rows).train()
        assert model.is_gradient_checkpointing == recomputes
        trained.append(model.state_dict())
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])
    assert not torch.equal(trained[0]["lm_head.weight"], model_of().state_dict()["lm_head.weight"])


def test_a_model_that_gains_a_pool_as_its_base_can_be_frozen() -> None:
    """BERT's head for masked words has no pooler, its bare network has one."""
    model = model_of({"model_type": "bert", **SIZES}, "masked_lm").freeze()
    assert {name for name, part in model.named_parameters() if part.requires_grad} == {
        *(f"cls.predictions.transform.{part}.{leaf}" for part in ("dense", "LayerNorm") for leaf in ("weight", "bias")),
        "cls.predictions.bias",
    }


# -- counting and describing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_parameters_are_counted_as_elsewhere(case: str, tmp_path: Path) -> None:
    values, task, loader = CASES[case]
    model = model_of(values, task)
    model.save_pretrained(tmp_path)
    other = getattr(transformers, loader).from_pretrained(tmp_path)
    held = other.num_parameters()
    if case == "two stacks with a bias":
        held += other.final_logits_bias.numel()  # a buffer there, which no optimiser sees
    assert model.num_parameters() == held
    assert held - model.num_parameters(exclude_embeddings=True) == other.num_parameters() - other.num_parameters(
        exclude_embeddings=True
    )
    model.freeze().unfreeze(last=1)
    trained = sum(part.numel() for part in model.parameters() if part.requires_grad)
    assert model.num_parameters(only_trainable=True) == model.num_parameters(True) == trained
    assert model.get_memory_footprint() == 4 * model.num_parameters()


TREE = """\
llama, causal_lm: 4,384 parameters, float32 on cpu
├─ stack                                                       4,384
│  ├─ frontend                                                   464
│  │  └─ tokens               29 × 16                            464
│  ├─ layers                                                   3,904
│  │  └─ 0–1                  2 alike, each 1,952              3,904
│  │     ├─ attention                                            768
│  │     │  ├─ query          16 × 16                            256
│  │     │  ├─ key            8 × 16                             128
│  │     │  ├─ value          8 × 16                             128
│  │     │  └─ output         16 × 16                            256
│  │     ├─ around_attention                                      16
│  │     │  └─ before         16                                  16
│  │     ├─ mlp                                                1,152
│  │     │  ├─ gate           24 × 16                            384
│  │     │  ├─ up             24 × 16                            384
│  │     │  └─ down           16 × 24                            384
│  │     └─ around_mlp                                            16
│  │        └─ before         16                                  16
│  └─ norm                    16                                  16
└─ head                                                            0
   └─ projection              weight of stack.frontend.tokens      0"""


def test_a_model_describes_itself() -> None:
    assert model_of(tie_word_embeddings=True, num_hidden_layers=2).describe() == TREE


def test_layers_that_differ_are_told_apart() -> None:
    mixture = {"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 5, "mlp_only_layers": [0]}
    model = model_of({**LLAMA, **mixture, "model_type": "qwen3_moe", "head_dim": 4})
    lines = [line for line in model.describe().splitlines() if line[:8] in ("│  │  ├─", "│  │  └─")]
    names = [line.split()[3] for line in lines]
    assert names == ["tokens", "0", "1–3"]


def test_weights_are_never_pickles(tmp_path: Path) -> None:
    model = model_of()
    model.save_pretrained(tmp_path, safe_serialization=True)
    assert sorted(path.name for path in tmp_path.glob("*model*")) == ["model.safetensors"]
    with pytest.raises(OptionError, match="safe_serialization=False is refused: weights are saved as safetensors"):
        model.save_pretrained(tmp_path / "other", safe_serialization=False)
    assert not (tmp_path / "other").exists()


def test_the_head_is_replaced_where_it_is() -> None:
    model = model_of(BERT, "sequence_classification", num_labels=3)
    assert model.num_labels == 3
    with pytest.raises(OptionError) as caught:
        model.classifier = torch.nn.Linear(16, 7)
    assert str(caught.value) == (
        "PretrainedModel has no part 'classifier' to replace. Its head is model.network.head, and the layer in it that "
        "scores is model.network.head.projection: replace that one."
    )
    head = torch.nn.Linear(16, 7)
    model.network.head.projection = head
    seen: list[Tensor] = []
    head.register_forward_hook(lambda part, given, made: seen.append(made))
    assert torch.equal(model(torch.tensor([[1, 2, 3]])).logits, seen[0])


def test_parts_under_other_names_are_pointed_at() -> None:
    model = model_of(BERT, "sequence_classification")
    for name, text in {
        "albert": "PretrainedModel has no attribute 'albert'. print(model.describe()) shows its parts, which begin at "
        "model.network.",
        "classifier": "PretrainedModel has no attribute 'classifier'. Its head is model.network.head, and the layer in "
        "it that scores is model.network.head.projection.",
        "describ": "PretrainedModel has no attribute 'describ'. Did you mean 'describe'? print(model.describe()) shows "
        "its parts, which begin at model.network.",
    }.items():
        with pytest.raises(AttributeError) as caught:
            getattr(model, name)
        assert str(caught.value) == text
        assert not hasattr(model, name)


def test_a_model_of_ones_own_names_its_parts_as_it_likes() -> None:
    class Scored(PretrainedModel):
        def forward(self, input_ids: Tensor) -> Tensor:  # type: ignore[override]
            return self.score(super().forward(input_ids).last_hidden_state)

    plain = model_of(BERT, "base")
    model = Scored(plain.config, task="base", network=plain.network).eval()
    model.score = torch.nn.Linear(16, 2)
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(model(ids), model.score(plain(ids).last_hidden_state))
