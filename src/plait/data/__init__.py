"""Data sets of typed columns, kept in memory-mapped Arrow files. The public names, complete, resolved on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plait import lazy

if TYPE_CHECKING:
    from plait.data.access import Column as Column
    from plait.data.cache import disable_caching as disable_caching
    from plait.data.cache import enable_caching as enable_caching
    from plait.data.cache import is_caching_enabled as is_caching_enabled
    from plait.data.combine import concatenate_datasets as concatenate_datasets
    from plait.data.combine import interleave_datasets as interleave_datasets
    from plait.data.dataset import Dataset as Dataset
    from plait.data.dataset_dict import DatasetDict as DatasetDict
    from plait.data.disk import load_from_disk as load_from_disk
    from plait.data.distributed import split_dataset_by_node as split_dataset_by_node
    from plait.data.features import ClassLabel as ClassLabel
    from plait.data.features import Features as Features
    from plait.data.features import LargeList as LargeList
    from plait.data.features import List as List
    from plait.data.features import Sequence as Sequence
    from plait.data.features import Value as Value
    from plait.data.info import DatasetInfo as DatasetInfo
    from plait.data.info import NamedSplit as NamedSplit
    from plait.data.info import Split as Split
    from plait.data.info import SplitInfo as SplitInfo
    from plait.data.kinds import Array2D as Array2D
    from plait.data.kinds import Array3D as Array3D
    from plait.data.kinds import Array4D as Array4D
    from plait.data.kinds import Array5D as Array5D
    from plait.data.kinds import Json as Json
    from plait.data.kinds import Translation as Translation
    from plait.data.kinds import TranslationVariableLanguages as TranslationVariableLanguages
    from plait.data.load import load_dataset as load_dataset
    from plait.data.offer import get_dataset_config_names as get_dataset_config_names
    from plait.data.offer import get_dataset_default_config_name as get_dataset_default_config_name
    from plait.data.offer import get_dataset_split_names as get_dataset_split_names
    from plait.data.pictures import Audio as Audio
    from plait.data.pictures import Image as Image
    from plait.data.progress import are_progress_bars_disabled as are_progress_bars_disabled
    from plait.data.progress import disable_progress_bar as disable_progress_bar
    from plait.data.progress import disable_progress_bars as disable_progress_bars
    from plait.data.progress import enable_progress_bar as enable_progress_bar
    from plait.data.progress import enable_progress_bars as enable_progress_bars
    from plait.data.progress import is_progress_bar_enabled as is_progress_bar_enabled
    from plait.data.splits import ReadInstruction as ReadInstruction
    from plait.data.streams.dataset import IterableDataset as IterableDataset
    from plait.data.streams.dataset_dict import IterableDatasetDict as IterableDatasetDict

# module -> the public names that it defines
_TABLE: dict[str, tuple[str, ...]] = {
    "plait.data.access": ("Column",),
    "plait.data.cache": ("disable_caching", "enable_caching", "is_caching_enabled"),
    "plait.data.combine": ("concatenate_datasets", "interleave_datasets"),
    "plait.data.dataset": ("Dataset",),
    "plait.data.dataset_dict": ("DatasetDict",),
    "plait.data.disk": ("load_from_disk",),
    "plait.data.distributed": ("split_dataset_by_node",),
    "plait.data.features": ("ClassLabel", "Features", "LargeList", "List", "Sequence", "Value"),
    "plait.data.info": ("DatasetInfo", "NamedSplit", "Split", "SplitInfo"),
    "plait.data.kinds": (
        "Array2D",
        "Array3D",
        "Array4D",
        "Array5D",
        "Json",
        "Translation",
        "TranslationVariableLanguages",
    ),
    "plait.data.load": ("load_dataset",),
    "plait.data.offer": (
        "get_dataset_config_names",
        "get_dataset_default_config_name",
        "get_dataset_split_names",
    ),
    "plait.data.pictures": ("Audio", "Image"),
    "plait.data.progress": (
        "are_progress_bars_disabled",
        "disable_progress_bar",
        "disable_progress_bars",
        "enable_progress_bar",
        "enable_progress_bars",
        "is_progress_bar_enabled",
    ),
    "plait.data.splits": ("ReadInstruction",),
    "plait.data.streams.dataset": ("IterableDataset",),
    "plait.data.streams.dataset_dict": ("IterableDatasetDict",),
}
_MODULES, __getattr__, __dir__ = lazy.names(__name__, _TABLE)

__all__ = list(_MODULES)
