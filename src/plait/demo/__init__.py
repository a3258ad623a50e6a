"""`plait demo`: the main job on real input, in stages that each say what they do and how long it took.

stages: how a stage is told · files: the tables · models: what is fetched, or trained in its place · power: regression
on a table · reviews: text classification · talk: a language model's answer
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["run_demo"]


def run_demo(output: str | Path = "runs/demo", *, offline: bool = False) -> int:
    """Run every stage and write what they leave into `output`. Returns 0, or 1 when a stage failed.

    Without a network, or with `offline`, a small Transformer trained from scratch takes the place of what is fetched.
    """
    from plait.demo import models, power, reviews, talk
    from plait.demo.stages import Stages

    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    stages = Stages()
    chosen = models.Models()
    with stages.stage("Models", "fetch two pretrained models, or take them from the cache"):
        chosen = models.choose(stages, folder, offline=offline)
    if chosen.encoder:
        with stages.stage("Regression", "solar power from the weather, through a frozen Transformer"):
            power.run(stages, chosen.encoder, folder / "power")
        with stages.stage("Classification", "is the sentence of a review good or bad? Every weight is trained"):
            reviews.run(stages, chosen.encoder, folder / "reviews", small=chosen.small)
    if chosen.decoder:
        with stages.stage("Language", "a language model answers, word by word"):
            talk.run(stages, chosen.decoder)
    stages.summary(folder)
    return 1 if stages.failed else 0
