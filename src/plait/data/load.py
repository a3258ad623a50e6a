"""`load_dataset`, complete: files, folders, addresses and names at hubs become data sets.

`plan.py` finds what is meant, `reading.py` reads it through the cache, `splits.py` cuts what `split=` asks for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from plait.console import logger
from plait.data.dataset import Dataset
from plait.data.dataset_dict import DatasetDict
from plait.data.features import Features
from plait.data.info import SplitInfo
from plait.data.plan import Plan, plan_of
from plait.data.published import Access
from plait.data.reading import read_dataset
from plait.data.schema import as_features
from plait.data.splits import read_splits, wanted
from plait.data.streams.make import stream_splits
from plait.data.suffixes import READERS
from plait.errors import DataError, OptionError, nearest

log = logger("data")

_MODES = ("reuse_dataset_if_exists", "reuse_cache_if_exists", "force_redownload")
# arguments of other versions of datasets -> what to do instead
_REFUSED = {
    "use_auth_token": "write token=",
    "task": "rename and cast the columns with rename_column() and cast_column()",
    "script_version": "write revision=",
    "download_config": "write token=, cache_dir= and storage_options=",
    "save_infos": "what is known about a data set is in its info",
    "ignore_verifications": "digests are always checked",
}


def load_dataset(
    path: str,
    name: str | None = None,
    *,
    data_dir: str | Path | None = None,
    data_files: Any = None,
    split: Any = None,
    cache_dir: str | Path | None = None,
    features: Features | Mapping[str, Any] | None = None,
    download_mode: str | None = None,
    verification_mode: str | None = None,
    keep_in_memory: bool | None = False,
    revision: str | None = None,
    token: str | bool | None = None,
    streaming: bool = False,
    num_proc: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    trust_remote_code: bool | None = None,
    **options: Any,
) -> Any:
    """A data set from files, a folder, an address or a hub: `load_dataset("csv", data_files="a.csv")`,
    `load_dataset("folder")`, `load_dataset("org/name", "configuration", split="train[:10%]")`.

    `path` is a format (csv, json, parquet, arrow, text, sql, xlsx, imagefolder, audiofolder, webdataset), a file or a
    folder, an address, or a repository of the hubs (`org/name`, `org/name@revision`, `ms:org/name`), of which `name`
    picks a configuration; of such only the files that are needed are fetched, with `token` at `revision`. `data_files`
    is a path, pattern or address, a list of them, or a dict of splits; `data_dir` a folder. Without `split` the result
    is a `DatasetDict`; with it ("train", "train[:10%]+test[5:]", a `ReadInstruction`) a `Dataset`, and a list of them
    for a list. `features` declares the types of the columns; otherwise they follow from all the data of all files.
    `keep_in_memory=True` writes nothing to the cache, which lies below `cache_dir` (by default PLAIT_HOME);
    `download_mode="force_redownload"` fetches and reads everything again. `storage_options` go to fsspec. Further
    options go to the reader of the format. `streaming=True` makes streams: an `IterableDataset` or
    `IterableDatasetDict`, read as they come, with the types of the first rows where none are declared.

    Raises `NotFoundError` for what is not there, `OfflineError` for what is neither here nor may be fetched,
    `DataError` for a bad row (with file, line and column), `OptionError` for an option that does not exist.
    """
    _refuse(options, trust_remote_code)
    _say(path, verification_mode, num_proc, revision)
    again = _mode(download_mode) == "force_redownload"
    plan = plan_of(
        str(path),
        name,
        data_dir=data_dir,
        data_files=data_files,
        split=split,
        features=None if features is None else as_features(features),
        options=options,
        access=Access(revision=revision, token=token, cache_dir=cache_dir, force_download=again),
        storage_options=storage_options,
    )
    if streaming:
        return stream_splits(split, plan)
    home = None if cache_dir is None else Path(cache_dir).expanduser()
    splits = {}
    for each in wanted(split, plan.files):
        with _declared(plan):
            splits[each] = read_dataset(
                plan.format,
                plan.reader(each),
                split=each,
                info=plan.info,
                again=again,
                keep_in_memory=bool(keep_in_memory),
                home=home,
            )
    _describe(splits, plan)
    return DatasetDict(splits) if split is None else read_splits(split, splits)


def _refuse(options: Mapping[str, Any], trust_remote_code: bool | None) -> None:
    if trust_remote_code:
        raise OptionError(
            "trust_remote_code=True is refused: no code comes with a data set, and none is run. Leave it out; of a "
            "repository with a script the Parquet files are read where its hub has them."
        )
    for name in options:
        if name in _REFUSED:
            raise OptionError(f"load_dataset has no argument {name!r}: {_REFUSED[name]}.")


def _say(path: str, verification_mode: str | None, num_proc: int | None, revision: str | None) -> None:
    """Say what means nothing here."""
    if revision is not None and (path in READERS or Path(path).expanduser().exists()):
        log.info("revision=%r has no effect on files that are here", revision)
    if verification_mode is not None:
        log.info("verification_mode=%r has no effect: digests are always checked", str(verification_mode))
    if num_proc is not None and num_proc > 1:
        log.info("num_proc=%d has no effect on load_dataset: files are read by one process", num_proc)


def _mode(download_mode: Any) -> str:
    """The mode from a text, or from the enumeration of datasets."""
    if download_mode is None:
        return _MODES[0]
    text = str(getattr(download_mode, "value", download_mode)).lower().rpartition(".")[2]
    if text not in _MODES:
        raise OptionError(
            f"download_mode must be one of {', '.join(_MODES)}, but is {download_mode!r}.{nearest(text, _MODES)}"
        )
    return text


@contextlib.contextmanager
def _declared(plan: Plan) -> Iterator[None]:
    """Errors of reading tell where the types come from that the values do not fit."""
    try:
        yield
    except DataError as error:
        if plan.declared_by is not None:
            error.args = (f"{error} The types are those of {plan.declared_by}; features= declares others.",)
        raise


def _describe(splits: Mapping[str, Dataset], plan: Plan) -> None:
    """Sizes of what was read, in the description of every split."""
    sizes = {
        name: SplitInfo(name, dataset.table.nbytes, len(dataset), dataset_name=plan.info.dataset_name)
        for name, dataset in splits.items()
    }
    stored = sum(size.num_bytes for size in sizes.values())
    fetched = sum(file.stat().st_size for name in splits for file in plan.files[name])
    for dataset in splits.values():
        info = dataset.info
        info.splits, info.dataset_size, info.download_size = sizes, stored, fetched
        info.size_in_bytes = stored + fetched
