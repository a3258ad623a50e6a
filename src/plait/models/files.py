"""From a folder to a model and back, complete:

build, load strictly, say what is new, and save so that other libraries can read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from plait.console import logger
from plait.disk import PARTIAL
from plait.errors import OptionError, WeightsError
from plait.generate import GenerationConfig
from plait.generate.settings import CONFIGURED
from plait.hub import Snapshot
from plait.models.config import Config
from plait.models.family import prefixed, rules_for, topology
from plait.models.gguf import gguf_rules
from plait.models.memory import keep_freed_memory
from plait.models.model import PretrainedModel
from plait.models.names import Names
from plait.models.options import LoadOptions
from plait.models.placement import Plan, plan
from plait.models.prepack import prepack
from plait.models.pretrained import Pretrained
from plait.models.quantise import (
    agreed_kind,
    expect_matrices,
    kind_of,
    noted,
    noted_kind,
    quantise,
    with_matrices,
)
from plait.models.reader import Reader
from plait.models.registry import family_of
from plait.models.seq2seq import Seq2SeqModel
from plait.models.table import TableModel
from plait.models.tasks import TASKS
from plait.nn.build import build, initialise
from plait.nn.spec import EncoderDecoder, LanguageHeadSpec, PoolSpec, Single, Topology
from plait.nn.topology import EncoderDecoderModel, SingleModel
from plait.weights.checkpoint import Checkpoint, open_checkpoint
from plait.weights.load import load_into
from plait.weights.rules import Rules, ignore
from plait.weights.save import save_state
from plait.weights.translated import Translated

# The parts behind the stack that a checkpoint may lack as a whole; the last is the layer of a head that scores.
_BEHIND = ("pool.", "head.", "head.projection.")
Network = SingleModel | EncoderDecoderModel


def load_model(snapshot: Snapshot, config: Config, *, task: str, options: LoadOptions) -> Pretrained:
    """The model of `task` from the weights of a snapshot, in evaluation mode.

    Raises the errors of `AutoModel.from_pretrained`.
    """
    stored = noted_kind(config)
    kind = agreed_kind(stored, options.quantize, prepack=options.prepack, label=snapshot.label)
    spec = _pooled(read_topology(config, task), options.add_pooling_layer, task=task, label=config.label)
    checkpoint = open_checkpoint(snapshot.file or snapshot.folder, label=snapshot.label)
    if options.use_safetensors and checkpoint.format != "safetensors":
        raise WeightsError(
            f"{checkpoint.label} is in the format {checkpoint.format}, but use_safetensors=True was given."
        )
    if checkpoint.format == "gguf":
        rules = gguf_rules(config, task=task)
    else:
        rules = rules_for(family_of(config.model_type, label=config.label), task, config)
    if options.add_pooling_layer is False:
        rules = _leaving_out(rules, "pool.", "add_pooling_layer=False leaves the pooler out")
    if task == "base" and isinstance(spec, Single) and _dense(spec.pool) and "pool." in _absent(checkpoint, rules):
        logger("models").info("%s has no pooler: pooler_output is None.", checkpoint.label)
        spec = replace(spec, pool=None)
    network = build(_without_bias(spec, checkpoint, rules))
    if kind is not None:
        quantise(network, kind)
    if stored is not None:
        expect_matrices(network)
        rules = with_matrices(rules, network)
    rules, fresh = _fit_head(network, checkpoint, rules, task=task, redraw=options.ignore_mismatched_sizes)
    dtype = options.wanted_dtype() or _main_dtype(checkpoint, network)
    source = None if options.device_map is None else Translated(checkpoint, rules)
    places = plan(network, source, rules, device_map=options.device_map, max_memory=options.max_memory, dtype=dtype)
    if kind is not None and "disk" in places.places.values():
        _refuse_disk(stored=stored is not None)
    if options.prepack:
        prepack(network, Translated(checkpoint, rules).entries(), dtype=dtype, device=places.device)
    report = load_into(network, checkpoint, rules, dtype=dtype, new=fresh, device=places.device)
    if report.new:
        _tell_new(report.new, Names(config, task), label=checkpoint.label)
        for name in report.new:
            network.get_parameter(name).requires_grad_(True)  # what is new trains, whatever lies before it
        _draw(network, config, report.new, dtype=report.dtype or torch.get_default_dtype(), places=places)
    model = model_of(noted(config, kind), task=task, network=network).eval()
    if options.offload_folder is not None and "disk" not in places.places.values():
        logger("models").info("offload_folder has no effect: nothing of this model lies on disk.")
    if source is not None:
        model.place(places, source, folder=options.offload_folder)
    model.generation_config = _generation_config(snapshot.folder, config)
    keep_freed_memory()  # now, so that the load itself gives back what it frees
    return model


def new_model(
    config: Config,
    *,
    task: str,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    pooled: bool | None = None,
) -> Pretrained:
    """A model of `task` with random weights, in training mode; the base network without its pooler for `pooled` False.

    Raises OptionError for `pooled` where there is no pooler.
    """
    noted_kind(config)  # refuses what another tool quantised
    config = noted(config, None)
    spec = _pooled(read_topology(config, task), pooled, task=task, label=config.label)
    network = build(spec, device=device)
    initialise_as_family(network, config)
    model = model_of(config, task=task, network=network if dtype is None else network.to(dtype))
    model.generation_config = _generation_config(None, config)
    keep_freed_memory()
    return model


def model_of(config: Config, *, task: str, network: Network) -> Pretrained:
    """The class of a network's topology, around it."""
    if isinstance(network, EncoderDecoderModel):
        return Seq2SeqModel(config, task=task, network=network)
    made = TableModel if task == "table_question_answering" else PretrainedModel
    return made(config, task=task, network=network)


def save_model(model: Pretrained, folder: Path, *, max_shard_size: str | int) -> None:
    """Write configuration, generation options and weights of `model` into `folder`."""
    if folder.is_file():
        raise OptionError(f"{folder} is a file, and a model is saved into a folder. Name one, there or yet to be made.")
    if any(part.is_meta for part in model.parameters()):
        where = "partly on disk" if getattr(model, "hf_device_map", None) else "on 'meta'"
        raise OptionError(f"This model is {where} and has no weights to save. Load it without a place on disk.")
    family = family_of(model.config.model_type, label=model.config.label)
    config = noted(model.config, kind_of(model.network))
    config.update({"architectures": [family.HEADS[model.task].architecture], "dtype": model.dtype})
    names = with_matrices(rules_for(family, model.task, config), model.network)
    state: Mapping[str, Tensor] = model.network.state_dict()
    save_state(names.export(state, prefixed=prefixed(family, model.task)), folder, max_shard_size=max_shard_size)
    for leftover in folder.glob(f".*config.json.*{PARTIAL}"):  # of a save that was killed
        leftover.unlink(missing_ok=True)
    config.save_pretrained(folder)
    if model.generation_config is not None and model.task == model.generates[0]:
        model.generation_config.save_pretrained(folder)


def reload_model(model: Pretrained, folder: Path) -> None:
    """Fill the parameters of `model` in place with weights that `save_model` wrote of the same kind of model.

    Raises OptionError for a model of which a part lies on disk.
    """
    if getattr(model, "hf_device_map", None) and any(part.is_meta for part in model.parameters()):
        raise OptionError(
            "This model lies partly on disk, where nothing is written. Load the folder with from_pretrained instead."
        )
    family = family_of(model.config.model_type, label=model.config.label)
    rules = with_matrices(rules_for(family, model.task, model.config), model.network)
    load_into(model.network, open_checkpoint(folder), rules)


def read_topology(config: Config, task: str) -> Topology:
    """The network that a configuration describes, for one task; every key of it is accounted for."""
    family = family_of(config.model_type, label=config.label)
    return topology(family, task, Reader(config, label=config.label, family=family.NAME))


def _without_bias(spec: Topology, checkpoint: Checkpoint, rules: Rules) -> Topology:
    """Where a file of two stacks lacks the bias of the scores (it came with later versions of BART), there is none."""
    if not (isinstance(spec, EncoderDecoder) and isinstance(spec.head, LanguageHeadSpec) and spec.head.bias):
        return spec
    present = (name for step in rules.plan(checkpoint.entries()).steps for name in step.ours)
    return spec if "head.projection.bias" in present else replace(spec, head=replace(spec.head, bias=False))


def _dense(pool: PoolSpec | None) -> bool:
    """Whether a pool has weights."""
    return pool is not None and pool.activation is not None


def _pooled(spec: Topology, asked: bool | None, *, task: str, label: str) -> Topology:
    """The network with its pooler, or without where False is `asked`. Raises OptionError where it has none to ask for,
    or where a head stands on it."""
    if asked is None:
        return spec
    if task != "base":
        raise OptionError(
            f"`add_pooling_layer` was given, but the network of {TASKS[task].title} is as its head needs it. Leave it "
            "out, or load AutoModel."
        )
    if not _dense(spec.pool):
        raise OptionError(f"`add_pooling_layer` was given, but this network has no pooler ({label}). Leave it out.")
    return spec if asked else replace(spec, pool=None)


def _leaving_out(rules: Rules, part: str, reason: str) -> Rules:
    """The rules that leave out, for a `reason`, what a checkpoint holds of a part such as "head."."""
    of_part = [rule for rule in rules.rules if any(template.text.startswith(part) for template in rule.ours.templates)]
    names = [template.text for rule in of_part for template in (*rule.theirs.templates, *rule.also)]
    kept = [rule for rule in rules.rules if rule not in of_part]
    return Rules(*kept, *(ignore(name, reason) for name in names), prefixes=rules.prefixes, old=rules.old)


def _absent(checkpoint: Checkpoint, rules: Rules) -> tuple[str, ...]:
    """Those parts behind the stack of which the checkpoint holds nothing at all."""
    present = [name for step in rules.plan(checkpoint.entries()).steps for name in step.ours]
    return tuple(part for part in _BEHIND if not any(name.startswith(part) for name in present))


def _fit_head(
    network: Network, checkpoint: Checkpoint, rules: Rules, *, task: str, redraw: bool
) -> tuple[Rules, tuple[str, ...]]:
    """The rules to load by, and the parts that may be new: a pool or head that the checkpoint lacks altogether, or the
    layer of a head that scores (ModernBERT shares the layers before it among its heads).

    With `redraw`, layers of another size count as lacking. Raises WeightsError for one otherwise, with the remedy.
    """
    if not TASKS[task].new_head:
        return rules, ()
    fresh = _absent(checkpoint, rules)
    if "head." in fresh:
        return rules, fresh
    shapes = {name: tuple(part.shape) for name, part in network.named_parameters() if name.startswith("head.")}
    if "head.projection." in fresh and "head.projection.weight" in shapes:
        return rules, fresh
    source = Translated(checkpoint, rules)
    stored = {name: entry.shape for name, entry in source.entries().items() if name in shapes}
    wrong = [
        name
        for name, shape in stored.items()
        if name.endswith(".weight") and shape[:1] != shapes[name][:1] and shape[1:] == shapes[name][1:]
    ]
    if not wrong:
        return rules, ()  # a head without the pool that it was trained on would be half a head
    if not redraw:
        raise WeightsError(
            f"{checkpoint.label} holds a head for {stored[wrong[0]][0]} labels, but the configuration asks for "
            f"{shapes[wrong[0]][0]}. "
            "Leave num_labels out to use that head, or pass ignore_mismatched_sizes=True to draw a new one."
        )
    layers = tuple(dict.fromkeys(name.rpartition(".")[0] + "." for name in wrong))
    for layer in layers:
        rules = _leaving_out(rules, layer, "a head of another size")
    return rules, (*fresh, *layers)


def _refuse_disk(*, stored: bool) -> None:
    """Raise OptionError: parts on disk are read as they lie there while they compute."""
    why = "`quantize` makes matrices that the checkpoint does not hold, so"
    if stored:
        why = "Quantised matrices are put into the order of this CPU when they are read, so"
    raise OptionError(f"{why} no part can lie on disk. {'A' if stored else 'Leave it out, or a'}llow more memory.")


def _main_dtype(checkpoint: Checkpoint, network: Network) -> torch.dtype | None:
    """Where a file mixes floating types, the one that most numbers have, those of few-bit matrices apart:

    a network computes in one. None where it does not.
    """
    sizes: Counter[torch.dtype] = Counter()
    own = {name for name, _ in network.named_buffers()}  # what belongs to few-bit matrices has a type of its own
    for entry in checkpoint.entries().values():
        if entry.name not in own and entry.dtype.is_floating_point:
            sizes[entry.dtype] += torch.Size(entry.shape).numel()
    if len(sizes) < 2:
        return None
    chosen = sizes.most_common(1)[0][0]
    logger("models").info("%s mixes %s; reading all as %s.", checkpoint.label, ", ".join(map(str, sizes)), chosen)
    return chosen


def initialise_as_family(module: nn.Module, config: Config, *, only: Collection[nn.Module] | None = None) -> None:
    """Draw the parameters of a module, or of its parts `only`, as its family says, by default with the deviation
    `initializer_range`."""
    own = getattr(family_of(config.model_type, label=config.label), "initialise", None)
    if own is not None:
        own(module, config, only=only)
    else:
        initialise(module, std=float(config.initializer_range), only=only)


def _tell_new(new: Collection[str], names: Names, *, label: str) -> None:
    """Log what a checkpoint lacks, as `named_parameters` calls it."""
    called = ", ".join(names.outer(f"network.{name}") for name in new)
    logger("models").warning("New, not in %s: %s. Train before use.", label, called)


def _draw(network: Network, config: Config, names: Collection[str], *, dtype: torch.dtype, places: Plan) -> None:
    """Allocate and initialise the modules of the parameters `names`, in memory: they are to be trained."""
    fresh = set()
    for prefix, module in network.named_modules():
        if any(f"{prefix}.{leaf}" in names for leaf in module._parameters):
            module.to_empty(device=places.device(prefix + ".") or places.main, recurse=False)
            module.to(dtype)
            fresh.add(module)
    initialise_as_family(network, config, only=fresh)


def _generation_config(folder: Path | None, config: Config) -> GenerationConfig:
    """The options beside the weights, else those in the configuration, where older files keep them."""
    if folder is not None and (folder / "generation_config.json").is_file():
        return GenerationConfig.from_folder(folder)
    return GenerationConfig.from_dict({name: config.get(name) for name in CONFIGURED})
