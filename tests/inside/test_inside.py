"""Looking inside a model: the numbers by hand, the pictures and the page, and the command."""

from __future__ import annotations

import math
import re
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from plait.cli import app
from plait.errors import MissingExtraError, OptionError
from plait.inside import Look, look, task_of, write
from plait.inside.page import _lines
from plait.inside.pictures import draw
from plait.inside.reading import piece
from plait.models.auto import AutoTokenizer
from plait.models.config import Config
from plait.models.files import new_model
from plait.text.tables import TableTokenizer

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_hidden_layers": 3, "vocab_size": 29}
LLAMA = {"model_type": "llama", **SIZES, "num_key_value_heads": 2, "initializer_range": 0.3}
T5 = {"model_type": "t5", "d_kv": 8, "d_ff": 40, "d_model": 16, "num_layers": 2, "num_heads": 2, "vocab_size": 29}


class Letters:
    """A tokenizer of one letter per token; id 28 is half a character, 27 a space."""

    model_max_length = 1000

    def __call__(self, text: str, *, max_length: int | None = None, **options: Any) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.tensor([[ord(letter) - 97 for letter in text[:max_length]]], dtype=torch.long)}

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


def test_a_model_of_two_stacks_says_which_is_shown(tmp_path: Path) -> None:
    _, found = looked(T5, "seq2seq_lm")
    text = write(found, tmp_path).read_text(encoding="utf-8")
    assert "2 layers of the encoder, 2 heads, 7 tokens: " in text
    _, alone = looked()
    assert "3 layers, 4 heads, 7 tokens: " in write(alone, tmp_path).read_text(encoding="utf-8")


def test_masked_words_are_said_in_their_place_and_not_next(tmp_path: Path) -> None:
    _, masked = looked({"model_type": "bert", **SIZES}, "masked_lm")
    text = write(masked, tmp_path).read_text(encoding="utf-8")
    assert text.count("What each layer would put in each place") == 3  # a table, a picture and its description
    assert "say next" not in text
    text = write(looked()[1], tmp_path).read_text(encoding="utf-8")
    assert text.count("What each layer would say next") == 3


def test_pictures_of_an_earlier_look_do_not_stay(tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(b"")
    write(looked()[1], tmp_path)
    assert (tmp_path / "attention-layer-02.png").is_file()
    write(looked(T5, "seq2seq_lm")[1], tmp_path)
    layers = {"attention-layer-00.png", "attention-layer-01.png"}
    kept = {"mine.png", "attention.png", "statistics.png", "index.html"}
    assert {file.name for file in tmp_path.iterdir()} == layers | kept


def test_a_long_text_is_cut_and_the_page_says_so(caplog: pytest.LogCaptureFixture) -> None:
    values = {"model_type": "llama", **SIZES, "num_hidden_layers": 1, "max_position_embeddings": 2048}
    _, found = looked(values, text="abcdefg" * 80)
    assert found.attentions.shape == (1, 4, 512, 512)
    assert (len(found.tokens), found.left_out) == (512, 48)
    assert caplog.messages == ["560 tokens are too many to look at: the first 512 are shown."]
    assert "512 tokens (48 more were left out): " in "".join(_lines(found, []))


def test_a_text_is_cut_to_what_the_model_reads(minilm: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = AutoTokenizer.from_pretrained(minilm, model_max_length=8)
    torch.manual_seed(0)
    model = new_model(Config({"model_type": "bert", **SIZES, "vocab_size": len(tokenizer)}), task="base").eval()
    found = look(model, tokenizer, "one two three four five six seven eight nine")
    assert found.tokens == ["[CLS]", "one", "two", "three", "four", "five", "six", "[SEP]"]
    assert found.left_out == 3
    assert caplog.messages == ["11 tokens are too many to look at: the first 8 are shown."]


def test_a_question_on_a_table(minilm: Path, tmp_path: Path) -> None:
    """The cells' places are read with their words, as the model's own forward on them shows."""
    tokenizer = TableTokenizer(AutoTokenizer.from_pretrained(minilm))
    values = {"model_type": "tapas", **SIZES, "vocab_size": len(tokenizer), "initializer_range": 0.3}
    torch.manual_seed(0)
    model = new_model(
        Config(values, architectures=["TapasForQuestionAnswering"]), task="table_question_answering"
    ).eval()
    table = {"name": ["ann", "bob"], "age": ["56", "45"]}
    found = look(model, tokenizer, "how old?", table=table)
    words = ["[CLS]", "how", "old", "?", "[SEP]", "name", "age", "ann", "56", "bob", "45"]
    assert found.tokens == words
    with torch.no_grad():
        inputs = tokenizer(table, "how old?", return_tensors="pt")
        expected = torch.cat(model(**inputs, output_attentions=True).attentions)
        without = torch.cat(model(inputs["input_ids"], output_attentions=True).attentions)
    # The mask of the other call is one of ones: the same sums, perhaps in another order.
    assert torch.allclose(found.attentions, expected, atol=1e-6)
    assert not torch.allclose(found.attentions, without, atol=1e-2)
    with pytest.raises(OptionError) as error:
        look(model, tokenizer, "how old?")
    assert str(error.value) == "This model reads questions on tables: give the table as well."
    with pytest.raises(OptionError) as error:
        look(looked()[0], Letters(), "abc", table=table)
    assert str(error.value) == "A table was given, but this model reads texts alone. Leave it out."
    model.save_pretrained(tmp_path / "tapas")
    tokenizer.save_pretrained(tmp_path / "tapas")
    (tmp_path / "people.csv").write_text("name,age\nann,56\nbob,45\n", encoding="utf-8")
    command = ["inspect", str(tmp_path / "tapas"), "--text", "how old?", "--output", str(tmp_path / "look")]
    result = CliRunner().invoke(app, [*command, "--table", str(tmp_path / "people.csv")])
    assert result.exit_code == 0, result.output
    text = (tmp_path / "look" / "index.html").read_text(encoding="utf-8")
    assert "11 tokens: " + " ".join(f"<code>{word}</code>" for word in words) in text
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert result.output.strip().endswith(
        "tapas reads questions on tables: add --table FILE.csv, the table that --text asks about."
    )


def test_options_that_go_with_others(minilm: Path, tmp_path: Path) -> None:
    ragged = tmp_path / "ragged.csv"
    ragged.write_text("a,b\n1,2\n3\n", encoding="utf-8")
    both = "--tensors lists what a checkpoint holds, and --text looks inside: give one of the two."
    for options, told in (
        (["--output", "q"], '--output q goes with a text to look inside with: add --text "…".'),
        (["--table", "t.csv"], '--table t.csv goes with a text to look inside with: add --text "…".'),
        (["--tensors", "--text", "x"], both),
        (["--text", "x", "--table", str(tmp_path)], f"--table {tmp_path} is not there, or no file."),
        (["--text", "x", "--table", str(ragged)], f"Row 2 of {ragged} has 1 cells, but the header has 2."),
    ):
        result = CliRunner().invoke(app, ["inspect", str(minilm), *options])
        assert result.exit_code == 1
        assert result.output.strip() == f"plait: {told}"


def test_labels_are_inside_the_picture(tmp_path: Path) -> None:
    """Whole, with white to the left: these labels began outside when axes and margins were settled separately."""
    from PIL import Image

    words = [*("[CLS] " + "the quick brown fox jumps over the lazy dog . " * 12).split(), "[SEP]"][:42]
    attentions = torch.full((1, 12, 42, 42), 1 / 42)
    found = Look(title="x", tokens=words, attentions=attentions, norms=torch.ones(2, 42),
                 entropies=torch.zeros(1, 12), sayings=None)  # fmt: skip
    one = Look(title="x", tokens=["a"], attentions=torch.ones(1, 1, 1, 1), norms=torch.ones(2, 1),
               entropies=torch.zeros(1, 1), sayings=None)  # fmt: skip
    for each in (found, one):
        for _, path in draw(each, tmp_path):
            with Image.open(path) as image:
                grey = np.asarray(image.convert("L"))
            for edge in (grey[:, 0], grey[:, -1], grey[0], grey[-1]):
                assert (edge == 255).all(), (path.name, len(each.tokens))


def test_layers_say_that_their_labels_are_escaped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A character that no font has, U+E000 of the private area: each picture has the note, the log two lines of it."""
    found = Look(title="x", tokens=["\ue000", "b"], attentions=torch.full((3, 1, 2, 2), 0.5), norms=torch.ones(4, 2),
                 entropies=torch.ones(3, 1), sayings=[[[("\ue000", 0.5)], [("b", 0.5)]]] * 4)  # fmt: skip
    plain = replace(found, tokens=["a", "b"])
    heights = []
    for each in (found, plain):
        for _, path in draw(each, tmp_path):
            if path.name == "attention-layer-02.png":
                heights.append(_grey_below(path))
    note = "Labels are escaped: no installed font has their characters (on Debian: apt install fonts-noto-cjk)."
    assert caplog.messages == [f"sayings.png: {note}", f"attention-layer-00.png: {note}", f"sayings.png: {note}"]
    # Hundreds of pixels of 98 letters, beside some edges of black ones.
    assert heights[0] > 4 * heights[1]


def _grey_below(path: Path) -> int:
    """Pixels of grey letters in the lowest fifth of a picture."""
    from PIL import Image

    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    lowest = pixels[pixels.shape[0] * 4 // 5 :]
    return int((np.abs(lowest - 128).max(axis=-1) < 40).sum())
