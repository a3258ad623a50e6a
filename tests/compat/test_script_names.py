"""What example scripts and tutorials import beside models: parsers, choices, the helpers of ModelScope."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

import plait
from plait.compat import standing_in
from plait.compat.shims.choices import IntervalStrategy, SchedulerType
from plait.compat.shims.parser import HfArgumentParser
from plait.errors import OptionError
from plait.train import Seq2SeqTrainingArguments, TrainingArguments


@dataclass
class ModelArguments:
    model_name_or_path: str = field(metadata={"help": "where it is"})
    layers: int | None = None
    kind: Literal["small", "large"] = "small"
    when: IntervalStrategy = IntervalStrategy.NO
    words: list[str] = field(default_factory=list)
    shuffle: bool = True
    quiet: bool = False
    share: float = 0.5


def test_a_command_line_becomes_objects(tmp_path: Path) -> None:
    parser = HfArgumentParser((ModelArguments, TrainingArguments))
    line = "--model_name_or_path bert --layers 3 --kind large --when epoch --words a b --no_shuffle --quiet"
    line += f" --output_dir {tmp_path} --learning-rate 1e-3 --evaluation_strategy steps --do_train --bf16 False"
    line += " --report_to none --warmup_ratio 0.5"
    model, training = parser.parse_args_into_dataclasses(line.split())
    assert model == ModelArguments("bert", 3, "large", IntervalStrategy.EPOCH, ["a", "b"], False, True, 0.5)
    assert (training.output_dir, training.learning_rate, training.eval_strategy) == (str(tmp_path), 1e-3, "steps")
    assert (training.do_train, training.bf16, training.report_to, training.warmup_steps) == (True, False, ["none"], 0.5)
    assert training.num_train_epochs == 3.0


def test_what_is_wrong_with_a_command_line_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    parser = HfArgumentParser(ModelArguments)
    with pytest.raises(OptionError, match=r"no options of the script: --layer 3\. Did you mean 'layers'"):
        parser.parse_args_into_dataclasses(["--model_name_or_path", "x", "--layer", "3"])
    (model, rest) = parser.parse_args_into_dataclasses(["--model_name_or_path", "x", "more"], True)
    assert (model.model_name_or_path, rest) == ("x", ["more"])
    for line, message in {
        "": "the following arguments are required: --model_name_or_path",
        "--model_name_or_path x --kind tiny": "invalid choice: 'tiny'",
        "--model_name_or_path x --quiet perhaps": "'perhaps' is neither true nor false",
        "--model_name_or_path x --layers many": "invalid int value: 'many'",
    }.items():
        with pytest.raises(SystemExit):
            parser.parse_args_into_dataclasses(line.split())
        assert message in capsys.readouterr().err


def test_files_and_tables_become_objects(tmp_path: Path) -> None:
    table = {"model_name_or_path": "x", "layers": 2, "output_dir": "out", "generation_max_length": 7}
    (tmp_path / "run.json").write_text(json.dumps(table), encoding="utf-8")
    (tmp_path / "run.yaml").write_text("\n".join(f"{name}: {value}" for name, value in table.items()), encoding="utf-8")
    parser = HfArgumentParser([ModelArguments, Seq2SeqTrainingArguments])
    for made in (parser.parse_json_file(tmp_path / "run.json"), parser.parse_yaml_file(tmp_path / "run.yaml")):
        assert (made[0].layers, made[1].output_dir, made[1].generation_max_length) == (2, "out", 7)
    with pytest.raises(OptionError, match=r"no options of the script: layrs\. Did you mean 'layers'"):
        parser.parse_dict({**table, "layrs": 1})
    assert parser.parse_dict({**table, "other": 1}, allow_extra_keys=True)[0].layers == 2


def test_choices_are_their_texts(tmp_path: Path) -> None:
    arguments = TrainingArguments(
        tmp_path, eval_strategy=IntervalStrategy.EPOCH, lr_scheduler_type=SchedulerType.COSINE_WITH_RESTARTS
    )
    assert (arguments.eval_strategy, arguments.lr_scheduler_type) == ("epoch", "cosine_with_restarts")


def test_what_example_scripts_ask(tmp_path: Path) -> None:
    with standing_in():
        from transformers import Seq2SeqTrainer, TensorType
        from transformers.models.xlm_roberta.modeling_xlm_roberta import XLMRobertaModel
        from transformers.trainer_utils import get_last_checkpoint
        from transformers.utils import check_min_version, send_example_telemetry
        from transformers.utils.versions import require_version

        check_min_version("4.99")
        require_version("datasets>=9", "to fix: …")
        send_example_telemetry("run_glue", object())
        assert Seq2SeqTrainer is plait.Seq2SeqTrainer
        assert XLMRobertaModel.__mro__[1] is plait.AutoModel
        assert TensorType("pt") is TensorType.PYTORCH
        assert get_last_checkpoint(str(tmp_path)) is None
        checkpoint = tmp_path / "checkpoint-3"
        checkpoint.mkdir()
        assert get_last_checkpoint(str(tmp_path)) is None, "it was not written to the end"
        rows = [{"features": [0.0] * 4, "labels": 1.0}] * 4
        given: dict[str, Any] = {"max_steps": 1, "save_steps": 1, "report_to": "none", "loss": "mse", "use_cpu": True}
        import torch

        class Four(torch.nn.Linear):
            def forward(self, features: torch.Tensor) -> torch.Tensor:
                return super().forward(features).squeeze(-1)

        plait.Trainer(Four(4, 1), TrainingArguments(tmp_path, **given), train_dataset=rows).train()
        assert get_last_checkpoint(str(tmp_path)) == str(tmp_path / "checkpoint-1")


def test_modelscope(minilm: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("文本,标签\n好,1\n坏,0\n", encoding="utf-8")
    folder = tmp_path / "model"
    shutil.copytree(minilm, folder)
    with standing_in():
        from modelscope import MsDataset, model_file_download
        from modelscope.hub.snapshot_download import snapshot_download
        from modelscope.pipelines import pipeline
        from modelscope.utils.constant import Tasks

        rows = MsDataset.load("csv", data_files=str(tmp_path / "rows.csv"), split="train")
        assert rows[0] == {"文本": "好", "标签": 1}
        assert snapshot_download(str(folder)) == str(folder)
        copy = snapshot_download(str(folder), local_dir=str(tmp_path / "copy"))
        assert (Path(copy) / "config.json").read_bytes() == (folder / "config.json").read_bytes()
        assert model_file_download(str(folder), "config.json") == str(folder / "config.json")
        found = pipeline(Tasks.sentence_embedding, model=str(folder))("hello")
        assert len(found[0][0]) == 384
