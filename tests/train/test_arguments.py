"""TrainingArguments: every spelling of transformers 4 and 5, defaults, and the text of each refusal."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from plait.errors import OptionError
from plait.train import TrainingArguments
from plait.train.names import CONVERTED, IGNORED, SYNONYMS

# Names that transformers had up to version 4 and has no more (release notes of 4.0 to 5.0).
OLD_NAMES = set(
    """
evaluation_strategy per_gpu_train_batch_size per_gpu_eval_batch_size no_cuda use_mps_device use_ipex jit_mode_eval
fp16_backend fp16_opt_level half_precision_backend xpu_backend tpu_num_cores tpu_metrics_debug past_index sharded_ddp
fsdp_min_num_params fsdp_transformer_layer_cls_to_wrap torchdynamo ray_scope mp_parameters push_to_hub_model_id
push_to_hub_organization push_to_hub_token adafactor group_by_length dispatch_batches split_batches
include_inputs_for_metrics include_tokens_per_second use_legacy_prediction_loop logging_dir overwrite_output_dir
save_safetensors warmup_ratio
""".split()  # noqa: SIM905
)


def fields() -> list[str]:
    return [field.name for field in dataclasses.fields(TrainingArguments)]


def test_every_name_of_transformers_is_known() -> None:
    theirs = {field.name for field in dataclasses.fields(transformers.TrainingArguments)} | {*OLD_NAMES}
    assert theirs - {*fields(), *SYNONYMS, *CONVERTED, *IGNORED} == set()


def test_it_stays_small() -> None:
    assert len(fields()) <= 45


def test_tables_do_not_overlap() -> None:
    for one, other in [(fields(), IGNORED), (fields(), SYNONYMS), (SYNONYMS, IGNORED), (CONVERTED, IGNORED)]:
        assert not {*one} & {*other}
    assert {*SYNONYMS.values(), *CONVERTED.values()} <= {*fields()}


def test_defaults_are_those_of_transformers() -> None:
    """Except where plait says something else on purpose."""
    theirs = {field.name: field.default for field in dataclasses.fields(transformers.TrainingArguments)}
    ours = {field.name: field.default for field in dataclasses.fields(TrainingArguments)}
    decided = {"output_dir", "report_to", "optim", "disable_tqdm", "gradient_checkpointing"}
    differing = {name for name in {*ours} & {*theirs} - decided if ours[name] != theirs[name]}
    assert differing == set()


ARTICLE: dict[str, Any] = {
    "output_dir": "./results",
    "num_train_epochs": 3,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 8,
    "warmup_steps": 500,
    "weight_decay": 0.01,
    "logging_dir": "./logs",
    "logging_steps": 100,
    "evaluation_strategy": "steps",
    "eval_steps": 500,
    "save_strategy": "steps",
    "save_steps": 500,
    "save_total_limit": 3,
    "load_best_model_at_end": True,
    "metric_for_best_model": "eval_loss",
    "greater_is_better": False,
    "learning_rate": 2e-5,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "max_grad_norm": 1.0,
    "gradient_accumulation_steps": 2,
    "fp16": True,
    "fp16_opt_level": "O1",
    "dataloader_drop_last": True,
    "dataloader_num_workers": 4,
    "seed": 42,
    "report_to": ["tensorboard", "wandb"],
}


def test_the_article(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "plait.train"):
        args = TrainingArguments(**ARTICLE)
    assert args.eval_strategy == args.evaluation_strategy == "steps"
    assert (args.warmup_steps, args.eval_steps, args.num_train_epochs) == (500, 500, 3.0)
    assert args.report_to == ["tensorboard", "wandb"]
    assert args.fp16_opt_level == "O1"
    assert caplog.messages == ["no effect here: fp16_opt_level (mixed precision is torch.autocast's)"]


def test_fp16_on_a_cpu_is_float32_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    args = TrainingArguments(fp16=True, use_cpu=True)
    assert args.autocast_dtype is None
    assert caplog.messages == ["fp16=True needs a CUDA device; on cpu float32 is used instead."]
    assert TrainingArguments(bf16=True).autocast_dtype is torch.bfloat16


def test_synonyms_read_and_write_one_field() -> None:
    args = TrainingArguments("out", no_cuda=True, per_gpu_train_batch_size=3, evaluation_strategy="epoch")
    assert (args.output_dir, args.use_cpu, args.per_device_train_batch_size, args.eval_strategy) == (
        "out",
        True,
        3,
        "epoch",
    )
    assert args.no_cuda is True
    assert args.do_train is None  # a script may ask for what it did not give


def test_converted_names() -> None:
    assert TrainingArguments(group_by_length=True).train_sampling_strategy == "group_by_length"
    assert TrainingArguments(group_by_length=False).train_sampling_strategy == "random"
    assert TrainingArguments(warmup_ratio=0.1).get_warmup_steps(101) == 11
    assert TrainingArguments(warmup_ratio=0.1, warmup_steps=7).get_warmup_steps(100) == 7
    assert TrainingArguments(warmup_steps=0, warmup_ratio=0.5).get_warmup_steps(100) == 50
    assert TrainingArguments(warmup_steps=20).get_warmup_steps(100) == 20


def test_normalised_names() -> None:
    args = TrainingArguments(
        optim="adamw_torch_fused", eval_strategy=transformers.IntervalStrategy.EPOCH, report_to="all"
    )
    assert (args.optim, args.eval_strategy, args.report_to) == ("adamw_fused", "epoch", ["tensorboard", "wandb"])
    assert TrainingArguments(lr_scheduler_type=transformers.SchedulerType.COSINE).lr_scheduler_type == "cosine"
    assert TrainingArguments(save_strategy=False).save_strategy == "no"


def test_what_follows_from_what() -> None:
    args = TrainingArguments(eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True)
    assert (args.metric_for_best_model, args.greater_is_better) == ("loss", False)
    for name, greater in [("accuracy", True), ("eval_f1", True), ("mae", False), ("eval_rmse", False), ("r2", True)]:
        assert TrainingArguments(metric_for_best_model=name).greater_is_better is greater
    assert TrainingArguments(logging_steps=25, eval_strategy="steps").eval_steps == 25


def test_replace_keeps_values() -> None:
    args = dataclasses.replace(TrainingArguments(learning_rate=0.1), seed=7)
    assert (args.learning_rate, args.seed) == (0.1, 7)


def test_a_dataclass_of_the_user_may_inherit() -> None:
    @dataclasses.dataclass
    class Mine(TrainingArguments):
        beta: float = 0.5

    args = Mine(output_dir="x", beta=2.0)
    assert (args.beta, args.learning_rate, args.eval_steps) == (2.0, 5e-5, 500)
    with pytest.raises(OptionError, match="seed must be"):
        Mine(seed=-1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"learning_rates": 1}, "TrainingArguments has no argument 'learning_rates'. Did you mean 'learning_rate'?"),
        ({"evaluation_stratgy": 1}, "no argument 'evaluation_stratgy'. Did you mean 'evaluation_strategy'?"),
        (
            {"eval_strategy": "step"},
            "eval_strategy must be one of no, steps, epoch, but is 'step'. Did you mean 'steps'?",
        ),
        ({"save_strategy": "bset"}, "save_strategy must be one of no, steps, epoch, best, but is 'bset'."),
        (
            {"eval_strategy": "no", "evaluation_strategy": "steps"},
            "eval_strategy and evaluation_strategy are two names",
        ),
        (
            {"per_device_train_batch_size": -8},
            "per_device_train_batch_size must be a whole number, 1 or more, but is -8.",
        ),
        ({"per_device_train_batch_size": 2.5}, "must be a whole number, 1 or more, but is 2.5."),
        (
            {"gradient_accumulation_steps": 0},
            "gradient_accumulation_steps must be a whole number, 1 or more, but is 0.",
        ),
        ({"learning_rate": "2e-5"}, "learning_rate must be a number, 0 or more, but is '2e-5'."),
        ({"learning_rate": float("nan")}, "learning_rate must be a number, 0 or more, but is nan."),
        ({"adam_beta2": 1}, "adam_beta2 must be a number in [0, 1), but is 1."),
        ({"logging_steps": 0}, "logging_steps must be a positive number of steps, or a fraction"),
        ({"save_steps": 2.5}, "save_steps must be a whole number, or a fraction below 1, but is 2.5."),
        ({"max_steps": 0}, "max_steps must be a positive number of updates, or -1 for none, but is 0."),
        ({"seed": -1}, "seed must be a whole number, 0 or more, but is -1."),
        ({"fp16": 1}, "fp16 must be True or False, but is 1."),
        ({"bf16": True, "fp16": True}, "bf16 and fp16 exclude each other."),
        ({"optim": "adafactor"}, "optim must be one of adamw, "),
        ({"adafactor": True}, "For others pass a TrainerCallback or your own objects to Trainer."),
        ({"lr_scheduler_type": "cosin"}, "Did you mean 'cosine'?"),
        (
            {"train_sampling_strategy": "sorted"},
            "train_sampling_strategy must be one of random, sequential, group_by_length",
        ),
        ({"report_to": ["mlflow"]}, "report_to must be one of tensorboard, wandb, all, none, but is 'mlflow'."),
        ({"load_best_model_at_end": True}, "load_best_model_at_end=True needs evaluations: set eval_strategy"),
        ({"save_strategy": "best"}, "save_strategy='best' needs evaluations"),
        (
            {"load_best_model_at_end": True, "eval_strategy": "epoch"},
            "save_strategy is 'steps', but eval_strategy is 'epoch'. Give both the same value.",
        ),
        (
            {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 200, "save_steps": 500},
            "needs save_steps to be a multiple of eval_steps, but they are 500 and 200.",
        ),
        (
            {"metric_for_best_model": "eval_loss", "greater_is_better": True},
            "greater_is_better=True, but metric_for_best_model is 'eval_loss', of which less is better.",
        ),
    ],
)
def test_refusals(options: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError) as caught:
        TrainingArguments(**options)
    assert text in str(caught.value)


def test_reading_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match=r"no argument 'learning_rat'. Did you mean 'learning_rate'\?"):
        TrainingArguments().learning_rat  # noqa: B018


def test_a_script_asks_for_its_place_among_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = TrainingArguments(tmp_path, use_cpu=True)
    assert (alone.world_size, alone.process_index, alone.local_process_index, alone.n_gpu) == (1, 0, 0, 0)
    assert (alone.should_save, alone.should_log) == (True, True)
    assert alone.get_process_log_level() == logging.getLogger("plait").getEffectiveLevel()
    assert json.loads(alone.to_json_string()) == alone.to_dict()
    with alone.main_process_first(desc="tokenising"):
        pass
    for name, value in {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    fourth = TrainingArguments(tmp_path, use_cpu=True)
    assert (fourth.world_size, fourth.process_index, fourth.local_process_index) == (4, 3, 1)
    assert (fourth.should_save, fourth.should_log, fourth.get_process_log_level()) == (False, False, logging.ERROR)
