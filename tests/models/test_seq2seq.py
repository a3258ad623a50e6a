"""An encoder and a decoder: the arguments of forward and their contradictions, outputs, caches, generation, freezing.

The family is the original Transformer; others are held to the reference library in tests/parity.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from plait.errors import ConfigError, OptionError
from plait.generate import LanguageModel, generate
from plait.generate.naive import generate_naively
from plait.models.auto import AutoModel, AutoModelForSeq2SeqLM, AutoModelForTextToTextGeneration
from plait.models.seq2seq import Seq2SeqModel
from plait.nn.cache import Cache

SIZES: dict[str, Any] = {
    "model_type": "transformer",
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_attention_heads": 4,
    "num_encoder_layers": 2,
    "num_decoder_layers": 3,
    "vocab_size": 29,
}
# Two orders of float32 summation, on values of order 1 to 10.
CLOSE = {"rtol": 1e-5, "atol": 2e-5}


@pytest.fixture(scope="module")
def model() -> Seq2SeqModel:
    torch.manual_seed(0)
    made = AutoModelForSeq2SeqLM.from_config(SIZES).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)  # biases and norms too
    return made


def ids(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(3, 29, shape, generator=torch.Generator().manual_seed(seed))


def padded(side: str) -> tuple[Tensor, Tensor]:
    """Three sources of 7, 4 and 1 tokens."""
    source, lengths = ids(3, 7), torch.tensor([[7], [4], [1]])
    order = torch.arange(7)[None]
    mask = (order < lengths if side == "right" else order >= 7 - lengths).long()
    return source * mask, mask


def test_labels_are_read_one_place_later(model: Seq2SeqModel) -> None:
    source, labels = ids(2, 5), ids(2, 4, seed=2)
    labels[1, 2:] = -100
    read = model.prepare_decoder_input_ids_from_labels(labels)
    assert read[:, 0].tolist() == [1, 1]
    assert torch.equal(read[0, 1:], labels[0, :3])
    assert read[1].tolist() == [1, *labels[1, :2].tolist(), 0]
    output = model(source, labels=labels)
    given = model(source, decoder_input_ids=read)
    assert torch.equal(output.logits, given.logits)
    expected = nn.functional.cross_entropy(given.logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(output.loss, expected)
    assert output.loss_terms.count == 6
    assert given.loss is None


def test_what_an_output_holds(model: Seq2SeqModel) -> None:
    source, target = ids(2, 5), ids(2, 4)
    with torch.no_grad():
        output = model(source, decoder_input_ids=target, output_attentions=True, output_hidden_states=True)
    assert list(output) == [
        *("logits", "past_key_values", "decoder_hidden_states", "decoder_attentions", "cross_attentions"),
        *("encoder_last_hidden_state", "encoder_hidden_states", "encoder_attentions"),
    ]
    assert [len(output[f"{side}_hidden_states"]) for side in ("encoder", "decoder")] == [3, 4]
    assert torch.equal(output.encoder_hidden_states[-1], output.encoder_last_hidden_state)
    assert [part.shape for part in output.cross_attentions] == [(2, 4, 4, 5)] * 3
    for part in (*output.encoder_attentions, *output.decoder_attentions, *output.cross_attentions):
        torch.testing.assert_close(part.sum(dim=-1), torch.ones(part.shape[:-1]))
    plain = model(source, decoder_input_ids=target, return_dict=False, use_cache=False)
    assert len(plain) == 2
    torch.testing.assert_close(plain[0], output.logits, **CLOSE)
    base = model.base_model(source, decoder_input_ids=target)
    assert list(base) == ["last_hidden_state", "encoder_last_hidden_state"]
    torch.testing.assert_close(base.last_hidden_state, output.decoder_hidden_states[-1], **CLOSE)


@pytest.mark.parametrize("form", [lambda output: output, lambda output: (output[0],), lambda output: output[0]])
def test_the_encoder_need_not_run_again(model: Seq2SeqModel, form: Any) -> None:
    source, mask = padded("right")
    target = ids(3, 4)
    with torch.no_grad():
        encoded = model.get_encoder()(source, mask, output_hidden_states=True)
        whole = model(source, mask, target, output_hidden_states=True)
        given = model(encoder_outputs=form(encoded), attention_mask=mask, decoder_input_ids=target)
    assert torch.equal(given.logits, whole.logits)
    assert torch.equal(encoded.hidden_states[1], whole.encoder_hidden_states[1])
    assert ("encoder_hidden_states" in given) == (form(encoded) is encoded)


def test_vectors_stand_in_for_ids(model: Seq2SeqModel) -> None:
    source, target = ids(2, 5), ids(2, 4)
    table = model.get_input_embeddings()
    scale = 32**0.5
    with torch.no_grad():
        expected = model(source, decoder_input_ids=target).logits
        given = model(inputs_embeds=table(source) * scale, decoder_inputs_embeds=table(target) * scale).logits
    torch.testing.assert_close(given, expected, **CLOSE)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_of_the_source_is_not_seen(model: Seq2SeqModel, side: str) -> None:
    source, mask = padded(side)
    target = ids(3, 4)
    other = torch.where(mask.bool(), source, ids(3, 7, seed=5))
    with torch.no_grad():
        first, second = (model(part, mask, target).logits for part in (source, other))
    torch.testing.assert_close(first, second, **CLOSE)
    if side == "right":  # the positions of the tokens are those of the row alone
        with torch.no_grad():
            alone = model(source[1:2, :4], decoder_input_ids=target[1:2]).logits
        torch.testing.assert_close(first[1:2], alone, **CLOSE)


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("chunks", [[1] * 6, [4, 2], [1, 5]])
def test_cached_equals_uncached(model: Seq2SeqModel, chunks: list[int], padding: bool) -> None:
    source, mask = padded("right")
    target, seen = ids(3, 6), torch.ones(3, 6).long()
    if padding:
        seen[1, 4:], seen[2, :2] = 0, 0
    with torch.no_grad():
        encoded = model.encode(source, mask)
        whole = model(source, mask, target, seen, use_cache=False)
        assert "past_key_values" not in whole
        cache, parts, start = None, [], 0
        for size in chunks:
            output = model(
                encoder_outputs=encoded,
                attention_mask=mask,
                decoder_input_ids=target[:, start : start + size],
                decoder_attention_mask=seen[:, : start + size] if padding else None,
                past_key_values=cache,
                use_cache=True,
            )
            cache, start = output.past_key_values, start + size
            parts.append(output.logits)
    assert isinstance(cache, Cache)
    assert cache.length == 6
    torch.testing.assert_close(torch.cat(parts, dim=1)[seen.bool()], whole.logits[seen.bool()], **CLOSE)
    with torch.no_grad():
        last = model(source, mask, target, seen, logits_to_keep=2).logits
    torch.testing.assert_close(last, whole.logits[:, -2:], **CLOSE)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_encoder_runs_once_and_rows_answer_as_if_alone(model: Seq2SeqModel, side: str) -> None:
    source, mask = padded(side)
    runs = []
    handle = model.network.encoder.register_forward_hook(lambda *_: runs.append(1))
    together = model.generate(source, attention_mask=mask, max_new_tokens=8, eos_token_id=None)
    handle.remove()
    assert len(runs) == 1
    assert together.shape == (3, 9)
    assert together[:, 0].tolist() == [1, 1, 1]
    for row in range(3):
        reading = model.read(source[row : row + 1], attention_mask=mask[row : row + 1])
        assert isinstance(reading, LanguageModel)
        alone = generate_naively(reading, torch.tensor([1]), max_new_tokens=8)
        assert together[row].tolist() == alone.tolist()
    again = model.generate(input_ids=source, attention_mask=mask, max_new_tokens=8, eos_token_id=None, use_cache=False)
    assert torch.equal(again, together)


def test_how_an_answer_begins(model: Seq2SeqModel) -> None:
    source = ids(2, 5)
    first = model.generate(source, max_new_tokens=3, decoder_start_token_id=7, forced_bos_token_id=9)
    assert first[:, :2].tolist() == [[7, 9], [7, 9]]
    begun = model.generate(source, max_new_tokens=3, decoder_input_ids=torch.tensor([[1, 9], [1, 8]]))
    assert begun[:, :3].tolist()[0][:2] == [1, 9]
    assert torch.equal(begun, model.generate(source, max_new_tokens=3, decoder_input_ids=torch.tensor([[9], [8]])))
    mask = torch.tensor([[1, 1], [0, 1]])
    padded_start = model.generate(
        source,
        max_new_tokens=2,
        decoder_input_ids=torch.tensor([[8, 9], [0, 9]]),
        decoder_attention_mask=mask,
    )
    assert padded_start[:, :3].tolist() == [[1, 8, 9], [1, 0, 9]]
    ends = model.generate(source, max_new_tokens=4, forced_eos_token_id=2, eos_token_id=2)
    assert ends[:, -1].tolist() == [2, 2]


def test_several_samples_of_each_source(model: Seq2SeqModel) -> None:
    source, mask = padded("left")
    many = model.generate(source, attention_mask=mask, do_sample=True, seed=3, num_return_sequences=4, max_new_tokens=5)
    assert many.shape[0] == 12
    assert len({tuple(row) for row in many.tolist()}) > 3
    # What is drawn of a source depends on it: the scores of its rows are those of the row alone.
    out = generate(
        model.read(source, attention_mask=mask),
        torch.ones(3, 1).long(),
        do_sample=True,
        seed=3,
        num_return_sequences=2,
        max_new_tokens=1,
        output_logits=True,
        return_dict_in_generate=True,
    )
    with torch.no_grad():
        expected = model(source, mask, torch.ones(3, 1).long()).logits[:, -1]
    torch.testing.assert_close(out.logits[0], expected.repeat_interleave(2, dim=0), **CLOSE)


def test_saved_and_loaded(model: Seq2SeqModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    loaded = AutoModelForTextToTextGeneration.from_pretrained(tmp_path)
    assert loaded.config.architectures == ["TransformerForSeq2SeqLM"]
    assert not loaded.training
    for (name, mine), other in zip(model.named_parameters(), loaded.parameters(), strict=True):
        assert torch.equal(mine, other), name
    source = ids(2, 5)
    assert torch.equal(loaded.generate(source, max_new_tokens=6), model.generate(source, max_new_tokens=6))
    base = AutoModel.from_pretrained(tmp_path)
    target = ids(2, 3)
    assert torch.equal(
        base(source, decoder_input_ids=target).last_hidden_state,
        model.base_model(source, decoder_input_ids=target).last_hidden_state,
    )
    with torch.no_grad():
        loaded.get_input_embeddings().weight.zero_()
    loaded.load_weights(tmp_path)
    assert torch.equal(loaded.get_input_embeddings().weight, model.get_input_embeddings().weight)
    assert loaded.network.head.projection.weight is loaded.network.decoder.frontend.tokens.weight


def trainable(model: Seq2SeqModel) -> set[str]:
    return {name for name, part in model.network.named_parameters() if part.requires_grad}


def test_freezing(tmp_path: Path) -> None:
    model = AutoModelForSeq2SeqLM.from_config({**SIZES, "tie_word_embeddings": False})
    everything = trainable(model)
    assert trainable(model.freeze()) == {"head.projection.weight"}
    model.unfreeze(last=1)
    assert trainable(model) == {"head.projection.weight"} | {n for n in everything if n.startswith("decoder.layers.2")}
    model.unfreeze(last=4)
    assert "encoder.layers.1.mlp.up.weight" in trainable(model)
    assert "encoder.layers.0.mlp.up.weight" not in trainable(model)
    assert trainable(model.unfreeze()) == everything
    with pytest.raises(OptionError, match="`last` must be between 0 and the 5 layers of the model, but is 6"):
        model.unfreeze(last=6)
    tied = AutoModelForSeq2SeqLM.from_config(SIZES)
    assert tied.num_parameters() == model.num_parameters() - 29 * 32
    assert trainable(tied.freeze()) == set()


def test_initialised_as_in_the_paper() -> None:
    torch.manual_seed(0)
    model = AutoModelForSeq2SeqLM.from_config({**SIZES, "hidden_size": 128, "vocab_size": 500})
    # Glorot: uniform within sqrt(6 / (in + out)), so the deviation is sqrt(2 / (in + out)); 128 * 128 draws give it
    # to half a percent, and five times that passes.
    weight = model.network.decoder.layers[0].cross.query.weight
    assert float(weight.detach().std()) == pytest.approx((2 / 256) ** 0.5, rel=0.025)
    assert float(weight.detach().abs().max()) <= (6 / 256) ** 0.5
    assert float(model.get_input_embeddings().weight.detach()[1:].std()) == pytest.approx(128**-0.5, rel=0.025)
    assert float(model.get_input_embeddings().weight.detach()[0].abs().max()) == 0.0
    assert float(model.network.encoder.layers[0].mlp.up.bias.detach().abs().max()) == 0.0


SOURCE = torch.ones(2, 3).long()
WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "Give exactly one of input_ids, inputs_embeds and encoder_outputs."),
    ({"input_ids": SOURCE, "encoder_outputs": torch.zeros(2, 3, 32)}, "Give exactly one of input_ids,"),
    ({"input_ids": SOURCE}, "The decoder needs exactly one of decoder_input_ids and decoder_inputs_embeds, or labels"),
    (
        {"input_ids": SOURCE, "decoder_input_ids": SOURCE, "decoder_inputs_embeds": torch.zeros(2, 3, 32)},
        "The decoder needs exactly one of",
    ),
    ({"input_ids": SOURCE[0], "labels": SOURCE}, "`input_ids` must have the shape (B, T), but has (3,)."),
    (
        {"input_ids": SOURCE, "decoder_input_ids": SOURCE[0]},
        "`decoder_input_ids` must have the shape (B, T), but has (3,).",
    ),
    (
        {"inputs_embeds": torch.zeros(2, 3, 31), "labels": SOURCE},
        "`inputs_embeds` must have the shape (B, T, 32), but has (2, 3, 31).",
    ),
    (
        {"encoder_outputs": ("states",), "labels": SOURCE},
        "`encoder_outputs` must be what encode() returned, or its states (B, S, D), but holds a str.",
    ),
    (
        {"input_ids": SOURCE, "labels": SOURCE, "decoder_attention_mask": torch.ones(2, 4)},
        "`decoder_attention_mask` must have the shape (2, 3), but has (2, 4).",
    ),
    (
        {"input_ids": SOURCE, "labels": SOURCE, "past_key_values": ()},
        "`past_key_values` must be the cache that an earlier call returned, but is a tuple.",
    ),
    (
        {"input_ids": SOURCE, "labels": SOURCE, "logits_to_keep": 1},
        "`logits_to_keep` leaves out scores that the loss needs: give either it or labels.",
    ),
    ({"input_ids": SOURCE, "labels": SOURCE * 29}, "Label 29 does not exist: the model has 29 (0 to 28)"),
]


@pytest.mark.parametrize(("arguments", "text"), WRONG)
def test_contradictions(model: Seq2SeqModel, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError, match=re.escape(text)):
        model(**arguments)


def test_what_generation_refuses(model: Seq2SeqModel) -> None:
    with pytest.raises(OptionError, match=r"Only a language model generates.*Load AutoModelForSeq2SeqLM\."):
        model.base_model.generate(SOURCE)
    with pytest.raises(OptionError, match=re.escape("`input_ids` must be a tensor (B, S), but is a list.")):
        model.generate([[1, 2]], max_new_tokens=1)  # type: ignore[arg-type]
    silent = AutoModelForSeq2SeqLM.from_config({**SIZES, "decoder_start_token_id": None, "bos_token_id": None})
    with pytest.raises(OptionError, match="Nothing says how an answer begins: pass decoder_start_token_id=…"):
        silent.generate(SOURCE, max_new_tokens=1)
    with pytest.raises(OptionError, match="Labels cannot be shifted, because `decoder_start_token_id` is None"):
        silent(SOURCE, labels=SOURCE)
    with pytest.raises(OptionError, match="`labels` was given, but this model of the bare network has no loss"):
        model.base_model(SOURCE, labels=SOURCE)


def test_a_width_that_heads_do_not_divide() -> None:
    with pytest.raises(ConfigError, match=r"`hidden_size` must be a multiple of `num_attention_heads` \(5\)"):
        AutoModelForSeq2SeqLM.from_config({**SIZES, "num_attention_heads": 5})
