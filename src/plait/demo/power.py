"""The regression of the demo, complete: power from irradiance, temperature, humidity and pressure.

CSV → split → standardise → frozen Transformer between an adapter and a head → errors in kW against simple models.

The rows are split at random, as is usual for this example, and the report says so. The year would also allow a split by
time (`TabularRegressor(time=…)`), but its last fifth is autumn and winter alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plait.demo import files
from plait.demo.stages import Stages

FEATURES = {"辐照度": "W/m²", "温度": "°C", "湿度": "%", "压强": "hPa"}
TARGET, UNIT, LABEL = "实发功率", "kW", "AC power"
_SEED = 42


def run(stages: Stages, reference: str, output: Path, *, epochs: int = 10) -> None:
    """Train, evaluate, compare, predict; leaves report.json and a plot in `output`."""
    from plait.data import load_dataset
    from plait.models.auto import AutoConfig, AutoModel
    from plait.tabular import Report, Scaler, columns
    from plait.tabular.baselines import BASELINES
    from plait.tabular.report import RANDOM

    dataset = load_dataset("csv", data_files=str(files.table("solar_power.csv")), split="train")
    stages.say(f"   {len(dataset):,} hours of {', '.join(FEATURES)} → {TARGET}")
    parts = dataset.train_test_split(test_size=0.2, seed=_SEED)
    values = {name: columns.matrix(part, list(FEATURES), others=part.column_names) for name, part in parts.items()}
    power = {name: columns.column(part, TARGET) for name, part in parts.items()}
    # What scales the rows is learnt from the training rows alone.
    features = Scaler.fit(values["train"], list(FEATURES))
    target = Scaler.fit(power["train"][:, None], [TARGET])

    def standardise(batch: dict[str, Any]) -> dict[str, Any]:
        inputs = features.apply(columns.matrix(batch, list(FEATURES), others=batch))
        labels = target.apply(columns.column(batch, TARGET)[:, None])[:, 0]
        return {"input_features": inputs.tolist(), "labels": labels.tolist()}

    rows = parts.map(standardise, batched=True, remove_columns=dataset.column_names)

    def predictions(backbone: Any, folder: str) -> Any:
        scaled = _train(backbone, rows, output / folder, epochs=epochs)
        return target.undo(scaled.astype("float64")[:, None])[:, 0]

    pretrained = predictions(AutoModel.from_pretrained(reference), "training")
    stages.say("   the same network with random weights, to see what pretraining is worth")
    random = predictions(_random(AutoModel, AutoConfig.from_pretrained(reference)), "training-random")
    report = Report(
        target=TARGET,
        unit=UNIT,
        label=LABEL,
        actual=power["test"],
        predictions={
            "frozen Transformer": pretrained,
            RANDOM: random,
            **{name: method(values["train"], power["train"], values["test"]) for name, method in BASELINES.items()},
        },
        split=f"random, 20% of the rows held out (seed {_SEED})",
        settings={"backbone": reference, "epochs": epochs},
    )
    report.save(output)
    stages.say("\n" + report.table() + "\n" + report.verdict())
    stages.say(
        "The split is random, so hours beside a test hour were trained on: the next year's error will be larger."
    )
    for row in [row for row, hour in enumerate(values["test"]) if hour[0] > 0][:3]:  # hours of light
        hour = parts["test"][row]
        given = ", ".join(f"{name} {hour[name]:g} {unit}" for name, unit in FEATURES.items())
        stages.say(f"   {hour['时间']}  {given} → {pretrained[row]:.2f} {UNIT} (actual {hour[TARGET]:.2f})")


def _train(backbone: Any, rows: Any, folder: Path, *, epochs: int) -> Any:
    """Train adapter and head around `backbone`; the predictions for the test rows, standardised."""
    import torch

    from plait.tabular import FrozenRegressor
    from plait.train import Trainer, TrainingArguments

    torch.manual_seed(_SEED)
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=epochs,
        per_device_train_batch_size=128,
        per_device_eval_batch_size=512,
        learning_rate=1e-2,
        logging_strategy="epoch",
        save_strategy="no",
        seed=_SEED,
    )
    trainer = Trainer(
        model=FrozenRegressor(backbone, len(FEATURES)),
        args=arguments,
        train_dataset=rows["train"],
        eval_dataset=rows["test"],
    )
    trainer.train()
    trainer.evaluate()
    return trainer.predict(rows["test"]).predictions


def _random(auto: Any, config: Any) -> Any:
    import torch

    torch.manual_seed(_SEED)
    return auto.from_config(config)
