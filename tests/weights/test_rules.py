"""Renaming tables: matching, both directions, overlaps, and the tensor operations with their inverses."""

from __future__ import annotations

import sys
from subprocess import run

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plait.errors import OptionError, WeightsError
from plait.weights.rules import Rules, concat, ignore, permute_rope, rename, split, stack, tied, transpose
from plait.weights.template import Template

BERT = Rules(
    rename("bert.embeddings.word_embeddings.weight", "stack.frontend.tokens.weight"),
    rename("bert.embeddings.LayerNorm.{wb}", "stack.frontend.norm.{wb}"),
    rename("bert.encoder.layer.{i}.attention.self.{p:query|key|value}.{wb}", "stack.layers.{i}.attention.{p}.{wb}"),
    rename("bert.encoder.layer.{i}.output.LayerNorm.{wb}", "stack.layers.{i}.around_mlp.after.{wb}"),
    rename("cls.predictions.bias", "head.projection.bias", also=("cls.predictions.decoder.bias",)),
    tied("cls.predictions.decoder.weight", "head.projection.weight"),
    ignore("bert.embeddings.position_ids", "counted, not learned"),
    ignore("cls.seq_relationship.{rest}", "the next-sentence head is not part of this model"),
    prefixes=("bert.",),
    old={"gamma": "weight", "beta": "bias"},
)

FUSED = Rules(
    transpose(
        split(
            "h.{i}.attn.c_attn.{wb}",
            ["layers.{i}.query.{wb}", "layers.{i}.key.{wb}", "layers.{i}.value.{wb}"],
            sizes=(2, 1, 1),
        )
    ),
    concat(["h.{i}.w1.weight", "h.{i}.w3.weight"], "layers.{i}.gate_up.weight"),
    stack("h.{i}.experts.{e}.down.weight", "layers.{i}.experts.down", over="e", count=3),
    permute_rope("h.{i}.q.{wb}", "layers.{i}.cross.query.{wb}", heads=2),
)


def their_names(layers: int, *, experts: int = 3) -> list[str]:
    names = []
    for i in range(layers):
        names += [f"h.{i}.attn.c_attn.weight", f"h.{i}.attn.c_attn.bias", f"h.{i}.w1.weight", f"h.{i}.w3.weight"]
        names += [f"h.{i}.experts.{e}.down.weight" for e in range(experts)] + [f"h.{i}.q.bias"]
    return names


class TestTemplate:
    @pytest.mark.parametrize(
        ("template", "name", "binding"),
        [
            ("layer.{i}.{wb}", "layer.12.bias", {"i": "12", "wb": "bias"}),
            ("layer.{i}.{wb}", "layer.0.weight", {"i": "0", "wb": "weight"}),
            ("layer.{i}.{wb}", "layer.01.weight", None),
            ("layer.{i}.{wb}", "layer.-1.weight", None),
            ("layer.{i}.{wb}", "layer.x.weight", None),
            ("layer.{i}.{wb}", "layer.1.weights", None),
            ("layer.{i}.{wb}", "my.layer.1.weight", None),
            ("layer.{i}.{wb}", "layerX1.weight", None),
            ("layer.{i}.{wb}", "layer.1.weight\n", None),
            ("conv{i}.{j}", "conv3.4", {"i": "3", "j": "4"}),
            ("a.{p:q|kv}.b", "a.kv.b", {"p": "kv"}),
            ("a.{p:q|kv}.b", "a.k.b", None),
            ("a.{rest}", "a.b.c", {"rest": "b.c"}),
            ("a.{rest}", "a.", None),
        ],
    )
    def test_match(self, template: str, name: str, binding: dict[str, str] | None) -> None:
        assert Template(template).match(name) == binding
        if binding is not None:
            assert Template(template).fill(binding) == name

    @pytest.mark.parametrize(
        ("template", "text"),
        [
            ("a.{i}.{i}", "uses a placeholder twice"),
            ("a.{}", "a brace that belongs to no placeholder"),
            ("a.{I}", "a brace that belongs to no placeholder"),
            ("a.{wbs}", r"unknown placeholder \{wbs\}\. Known are one letter for an index, \{wb\}, \{rest\}"),
        ],
    )
    def test_wrong_templates(self, template: str, text: str) -> None:
        with pytest.raises(OptionError, match=text):
            Template(template)


class TestNames:
    @given(layers=st.integers(1, 12), order=st.randoms())
    def test_inversion(self, layers: int, order: object) -> None:
        names = their_names(layers)
        order.shuffle(names)  # type: ignore[attr-defined]
        ours = FUSED.to_ours(names)
        assert len(set(ours)) == len(ours) == 9 * layers
        assert set(FUSED.to_theirs(ours)) == set(names)

    @given(st.lists(st.sampled_from(range(5)), unique=True), st.booleans())
    def test_inversion_with_prefix(self, layers: list[int], prefixed: bool) -> None:
        names = ["bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight", "cls.predictions.bias"]
        names += [
            f"bert.encoder.layer.{i}.attention.self.{p}.{wb}"
            for i in layers
            for p in ("query", "key")
            for wb in ("weight", "bias")
        ]
        file = names if prefixed else [name.removeprefix("bert.") for name in names]
        ours = BERT.to_ours(file)
        assert ours[0] == "stack.frontend.tokens.weight"
        assert BERT.to_theirs(ours, prefixed=prefixed) == file
        assert BERT.to_ours(BERT.to_theirs(ours)) == ours

    def test_old_names_are_read_and_never_written(self) -> None:
        ours = BERT.to_ours(["embeddings.LayerNorm.gamma", "bert.encoder.layer.3.output.LayerNorm.beta"])
        assert ours == ["stack.frontend.norm.weight", "stack.layers.3.around_mlp.after.bias"]
        assert BERT.to_theirs(ours) == [
            "bert.embeddings.LayerNorm.weight",
            "bert.encoder.layer.3.output.LayerNorm.bias",
        ]
        assert BERT.to_theirs(BERT.to_ours(["cls.predictions.decoder.bias"])) == ["cls.predictions.bias"]

    def test_the_order_of_rules_has_no_meaning(self) -> None:
        names = their_names(2)
        backwards = Rules(*reversed(FUSED.rules))
        assert set(backwards.to_ours(names)) == set(FUSED.to_ours(names))

    def test_plan_sorts_every_name(self) -> None:
        plan = BERT.plan(
            [
                "bert.embeddings.position_ids",
                "cls.seq_relationship.weight",
                "surprise",
                "cls.predictions.bias",
                "cls.predictions.decoder.bias",
            ]
        )
        assert plan.ignored == {
            "bert.embeddings.position_ids": "counted, not learned",
            "cls.seq_relationship.weight": "the next-sentence head is not part of this model",
        }
        assert plan.unexpected == ("surprise",)
        (step,) = plan.steps
        assert step.found == (("cls.predictions.bias", "cls.predictions.decoder.bias"),)
        assert BERT.theirs_of("head.projection.weight") == ("cls.predictions.decoder.weight",)
        assert BERT.theirs_of("nothing") == ()

    def test_what_cannot_be_translated(self) -> None:
        with pytest.raises(WeightsError, match="No rule knows the checkpoint's tensor 'surprise'"):
            BERT.to_ours(["surprise"])
        with pytest.raises(WeightsError, match=r"'head.projektion.weight'\. Did you mean 'head\.projection\.weight'"):
            BERT.to_theirs(["head.projektion.weight"])
        with pytest.raises(
            WeightsError, match=r"'layers\.0\.experts\.down' is made of 3 tensors; 'h\.0\.experts\.1\.down"
        ):
            FUSED.to_ours(["h.0.experts.0.down.weight", "h.0.experts.2.down.weight"])
        with pytest.raises(WeightsError, match=r"No rule knows .*'h\.0\.experts\.3\.down"):
            FUSED.to_ours(["h.0.experts.3.down.weight"])
        with pytest.raises(
            WeightsError, match=r"'h\.1\.attn.c_attn.weight' is made of 3 tensors of the model; 'layers\.1\.key"
        ):
            FUSED.to_theirs(["layers.1.query.weight", "layers.1.value.weight"])


class TestOverlap:
    @pytest.mark.parametrize(
        "rules",
        [
            (rename("a.{i}.w", "x.{i}"), rename("a.0.w", "y")),
            (rename("a.{i}.w", "x.{i}"), ignore("a.{rest}", "none")),
            (rename("a", "x"), rename("b", "x")),
            (rename("a.{wb}", "x.{wb}"), rename("a.bias", "y")),
            (rename("a", "x"), rename("b", "y", also=("a",))),
            (rename("p.a", "x"), rename("a", "y")),
            (split("a.{i}", ["x.{i}", "y.{i}"]), rename("b.{i}", "y.{i}")),
        ],
    )
    def test_is_found_when_the_table_is_made(self, rules: tuple[object, ...]) -> None:
        with pytest.raises(
            OptionError, match=r"Two rules match '.*': .* ↔ .* and .* ↔ .*\. Make them exclude each other"
        ):
            Rules(*rules, prefixes=("p.",))  # type: ignore[arg-type]

    def test_is_found_at_use(self) -> None:
        """An overlap between two indices that no example hits."""
        rules = Rules(rename("a.3.{i}", "x.{i}"), rename("a.{i}.5", "y.{i}"))
        assert rules.to_ours(["a.3.4", "a.4.5"]) == ["x.4", "y.4"]
        with pytest.raises(OptionError, match=r"Two rules match 'a\.3\.5'"):
            rules.to_ours(["a.3.5"])

    def test_rules_that_cannot_be_inverted(self) -> None:
        for make in (
            lambda: rename("a.{i}", "b"),
            lambda: rename("a.{i}", "b.{j}"),
            lambda: rename("a.{rest}", "b.{rest}"),
            lambda: split("a.{i}", ["b.{i}", "c"]),
        ):
            with pytest.raises(OptionError, match="cannot be inverted"):
                make()
        with pytest.raises(OptionError, match=r"the placeholder \{e\} must be in their names alone"):
            stack("a.{i}", "b", over="e", count=2)
        with pytest.raises(OptionError, match=r"the placeholder \{e\} must be in their names alone"):
            stack("a.{e}", "b", over="e", count=2, also=["c"])
        with pytest.raises(OptionError, match=r"the placeholder \{e\} must be in their names alone"):
            stack("a.{e}", "b.{e}", over="e", count=2)
        with pytest.raises(OptionError, match="count must be at least 1, but is 0"):
            stack("a.{e}", "b", over="e", count=0)
        with pytest.raises(OptionError, match=r"one positive size for each of its names, but sizes is \(1, 2\)"):
            split("a", ["b", "c", "d"], sizes=(1, 2))
        with pytest.raises(OptionError, match="needs our name as its second argument"):
            transpose("a")
        with pytest.raises(OptionError, match=r"prefixes must be a tuple such as \('bert\.',\)"):
            Rules(prefixes="bert.")

    def test_plus(self) -> None:
        more = BERT.plus(rename("classifier.{wb}", "labels.{wb}"))
        assert more.to_ours(["encoder.layer.1.output.LayerNorm.gamma", "classifier.bias"]) == [
            "stack.layers.1.around_mlp.after.weight",
            "labels.bias",
        ]
        with pytest.raises(OptionError, match="Two rules match"):
            BERT.plus(rename("cls.predictions.bias", "other"))


class TestExport:
    def test_every_structure_comes_back(self) -> None:
        theirs = {
            "h.0.attn.c_attn.weight": torch.randn(6, 8),
            "h.0.attn.c_attn.bias": torch.randn(8),
            "h.0.w1.weight": torch.randn(4, 3),
            "h.0.w3.weight": torch.randn(4, 3),
            "h.0.q.bias": torch.randn(8),
            **{f"h.0.experts.{e}.down.weight": torch.randn(2, 5) for e in range(3)},
        }
        ours: dict[str, torch.Tensor] = {}
        for step in FUSED.plan(theirs).steps:
            tensors = step.rule.to_ours([theirs[name] for name in step.theirs])
            ours |= dict(zip(step.ours, tensors, strict=True))
        assert ours["layers.0.query.weight"].shape == (4, 6)
        assert torch.equal(ours["layers.0.query.weight"], theirs["h.0.attn.c_attn.weight"][:, :4].T)
        back = FUSED.export(ours)
        assert back.keys() == theirs.keys()
        assert all(torch.equal(back[name], theirs[name]) for name in theirs)

    def test_a_shared_tensor_is_left_out(self) -> None:
        tokens = torch.randn(5, 3)
        state = {"stack.frontend.tokens.weight": tokens, "head.projection.weight": tokens.detach()}
        assert list(BERT.export(state)) == ["bert.embeddings.word_embeddings.weight"]
        assert list(BERT.export(state, prefixed=False)) == ["embeddings.word_embeddings.weight"]
        state["head.projection.weight"] = tokens.clone()
        assert list(BERT.export(state)) == ["bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"]
        assert list(BERT.export({"head.projection.weight": tokens})) == ["cls.predictions.decoder.weight"]

    def test_copies_are_read_as_one_and_written_with_memory_of_their_own(self) -> None:
        rules = Rules(rename("cls.bias", "head.bias", also=["cls.b"], copies=["cls.decoder.bias"]))
        for found in (["cls.bias"], ["cls.decoder.bias"], ["cls.b"], ["cls.decoder.bias", "cls.bias"]):
            assert rules.to_ours(found) == ["head.bias"]
        exported = rules.export({"head.bias": torch.arange(3.0)})
        assert {name: tensor.tolist() for name, tensor in exported.items()} == {
            "cls.bias": [0, 1, 2],
            "cls.decoder.bias": [0, 1, 2],
        }
        assert exported["cls.bias"].data_ptr() != exported["cls.decoder.bias"].data_ptr()

    def test_a_shape_that_no_rule_made(self) -> None:
        with pytest.raises(
            WeightsError,
            match=r"'layers\.0\.experts\.down' cannot become 'h\.0\.experts\.0\.down\.weight': \(2, 4\) is not",
        ):
            FUSED.export({"layers.0.experts.down": torch.zeros(2, 4)})


def test_rules_need_no_torch() -> None:
    code = "import sys, plait.weights.rules, plait.weights.checkpoint; print('torch' in sys.modules)"
    assert run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
