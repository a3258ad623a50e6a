"""Looking inside a model: the numbers by hand, the pictures and the page, and the command."""

from __future__ import annotations

import math
import re
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from plait.cli import app
from plait.errors import MissingExtraError, OptionError
from plait.inside import Look, look, task_of, write
from plait.inside.reading import piece
from plait.models.auto import AutoTokenizer
from plait.models.config import Config
from plait.models.files import new_model

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_hidden_layers": 3, "vocab_size": 29}
LLAMA = {"model_type": "llama", **SIZES, "num_key_value_heads": 2, "initializer_range": 0.3}
T5 = {"model_type": "t5", "d_kv": 8, "d_ff": 40, "d_model": 16, "num_layers": 2, "num_heads": 2, "vocab_size": 29}


class Letters:
    """A tokenizer of one letter per token; id 28 is half a character, 27 a space."""

    def __call__(self, text: str, **options: Any) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.tensor([[ord(letter) - 97 for letter in text]], dtype=torch.long)}

    def decode(self, ids: list[int]) -> str:
        return {27: "  ", 28: "\N{REPLACEMENT CHARACTER}"}.get(ids[0], chr(97 + ids[0]))

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return {27: ["ĠĠ"], 28: ["åĽ"], 5: ["##f"]}.get(ids[0], [chr(97 + ids[0])])


def looked(values: dict[str, Any] = LLAMA, task: str = "causal_lm", text: str = "abcdefg") -> tuple[Any, Look]:
    torch.manual_seed(0)
    model = new_model(Config(values), task=task).eval()
    return model, look(model, Letters(), text, title="<b>tiny</b>")


def test_the_numbers_of_a_look() -> None:
    model, found = looked()
    assert found.tokens == ["a", "b", "c", "d", "e", "##f", "g"]
    assert found.layers == 3
    with torch.no_grad():
        output = model(torch.arange(7)[None], output_hidden_states=True, output_attentions=True)
    assert torch.equal(found.attentions, torch.cat(output.attentions))
    for index, states in enumerate(output.hidden_states):
        expected = [math.sqrt(sum(x * x for x in vector)) for vector in states[0].tolist()]
        assert found.norms[index].tolist() == pytest.approx(expected, rel=1e-5)
    rows = output.attentions[1][0, 2].tolist()
    bits = [-sum(p * math.log2(p) for p in row if p > 0) for row in rows]
    assert bits[0] == 0  # the first token sees itself alone
    assert float(found.entropies[1, 2]) == pytest.approx(sum(bits) / 7, rel=1e-4)


def test_states_are_projected_where_the_head_reads_narrower_ones() -> None:
    opt = {"model_type": "opt", "hidden_size": 16, "ffn_dim": 24, "num_attention_heads": 4, "num_hidden_layers": 2}
    opt |= {"vocab_size": 29, "word_embed_proj_dim": 8, "do_layer_norm_before": False, "max_position_embeddings": 20}
    model, found = looked(opt)
    with torch.no_grad():
        output = model(torch.arange(7)[None], output_hidden_states=True)
        odds = model.network.head(model.network.stack.projection(output.hidden_states[1]))[0].softmax(dim=-1)
    assert found.sayings is not None
    assert [words[0][1] for words in found.sayings[1]] == pytest.approx(odds.amax(dim=-1).tolist(), rel=1e-5)


def test_a_model_in_training_is_not_looked_at() -> None:
    model = new_model(Config(LLAMA), task="causal_lm").train()
    with pytest.raises(OptionError) as error:
        look(model, Letters(), "abc")
    assert str(error.value) == "The model is in training mode, where dropout is random. Call model.eval() first."


def test_what_a_layer_would_say_is_the_head_on_its_state() -> None:
    model, found = looked()
    assert found.sayings is not None
    assert len(found.sayings) == 4
    with torch.no_grad():
        output = model(torch.arange(7)[None], output_hidden_states=True)
        network = model.network
        between = network.head(network.stack.norm(output.hidden_states[1]))[0].softmax(dim=-1)
    for said, odds in ((found.sayings[3], output.logits[0].softmax(dim=-1)), (found.sayings[1], between)):
        for place, words in enumerate(said):
            best = odds[place].topk(3)
            assert [word for word, _ in words] == [piece(Letters(), index) for index in best.indices.tolist()]
            assert [p for _, p in words] == pytest.approx(best.values.tolist(), rel=1e-4)
    assert looked({"model_type": "bert", **SIZES}, "base")[1].sayings is None
    assert looked({"model_type": "bert", **SIZES}, "masked_lm")[1].sayings is not None


def test_two_stacks_are_looked_at_in_the_encoder() -> None:
    model, found = looked(T5, "seq2seq_lm")
    with torch.no_grad():  # as it was looked at: with gradients, sums may be taken in another order
        encoded = model.encode(torch.arange(7)[None], output_attentions=True)
    assert torch.equal(found.attentions, torch.cat(encoded.attentions))
    assert found.sayings is None


def test_tokens_as_a_person_reads_them(smollm2: Path) -> None:
    assert piece(Letters(), 28) == "<E5 9B>"
    assert piece(Letters(), 27) == "␣␣"
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    ids = tokenizer("Paris 国 中\n")["input_ids"]
    assert [piece(tokenizer, index) for index in ids] == ["Paris", "<20 E5>", "<9B>", "<BD>", "␣", "中", "⏎"]


def test_a_text_without_tokens() -> None:
    model, _ = looked()
    with pytest.raises(OptionError, match="The text has no tokens: there is nothing to look at"):
        look(model, Letters(), "")


def test_the_page_holds_everything(tmp_path: Path) -> None:
    _, found = looked()
    page = write(found, tmp_path / "look")
    names = [*(f"attention-layer-{layer:02}.png" for layer in range(3)), "attention.png", "sayings.png"]
    assert {file.name for file in page.parent.iterdir()} == {*names, "statistics.png", "index.html"}
    text = page.read_text(encoding="utf-8")
    pictures = re.findall(r"src='data:image/png;base64,([^']+)'", text)
    kept = {(page.parent / name).read_bytes() for name in [*names, "statistics.png"]}
    assert {b64decode(each) for each in pictures} == kept
    assert all(each.startswith(b"\x89PNG\r\n") for each in kept)
    assert "http" not in text
    assert "<script" not in text
    assert "<b>" not in text
    assert "&lt;b&gt;tiny&lt;/b&gt;" in text
    assert found.sayings is not None
    word, odds = found.sayings[3][6][0]
    assert f"rgb(35 132 67 / {odds:.2f})" in text
    assert f">{word}</td>" in text


def test_the_maps_are_where_the_labels_say(tmp_path: Path) -> None:
    """The overview's pixels: dark where a head looks at one token alone, light where it does not."""
    from matplotlib import colormaps
    from PIL import Image

    from plait.inside.pictures import draw

    attentions = torch.zeros(2, 2, 8, 8)
    attentions[..., 0] = 1
    attentions[1, 1] = 1 / 8
    dark = Look(title="x", tokens=["a"] * 8, attentions=attentions, norms=torch.ones(3, 8),
                entropies=torch.zeros(2, 2), sayings=None)  # fmt: skip
    path = next(draw(dark, tmp_path))[1]
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    one, eighth = (np.array(colormaps["Blues"](weight, bytes=True)[:3]) for weight in (1.0, 0.125**0.5))
    counts = [int((pixels == colour).all(axis=-1).sum()) for colour in (one, eighth)]
    # Three maps have one full column of eight, the fourth eight columns of an eighth: 3 to 8, but for the scale beside
    # them, which has a line of each colour.
    assert counts[0] / counts[1] == pytest.approx(3 / 8, rel=0.1)


def test_the_task_of_a_checkpoint() -> None:
    assert task_of(Config(LLAMA, architectures=["LlamaForCausalLM"])) == "causal_lm"
    assert task_of(Config({"model_type": "bert"}, architectures=["BertForMaskedLM"])) == "masked_lm"
    assert task_of(Config({"model_type": "bert"})) == "base"


def test_the_command_writes_a_page(minilm: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["inspect", str(minilm), "--text", "Hello, dog", "--output", str(tmp_path / "out")]
    )
    assert result.exit_code == 0, result.output
    assert result.output.strip() == str(tmp_path / "out" / "index.html")
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "6 layers, 12 heads, 5 tokens: <code>[CLS]</code> <code>hello</code> <code>,</code>" in text


def test_without_matplotlib_nothing_is_loaded(minilm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    result = CliRunner().invoke(app, ["inspect", str(minilm), "--text", "Hello"])
    assert result.exit_code == 1
    assert "`matplotlib` is needed to draw attention maps" in result.output
    assert "pip install 'plait[train]'" in result.output
    assert issubclass(MissingExtraError, Exception)
