"""Data sets uploaded to a hub, complete: Parquet files, and a README that says what they are; read by `load_dataset`.

    data/train-00000-of-00001.parquet     README.md (configs and dataset_info in its YAML)

One commit holds all of it. The files of the same splits that were there before go in the same commit; other splits,
other configurations and other files stay.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from plait.console import bar, logger
from plait.data.card_update import Update, Uploaded, updated_card
from plait.data.decode import to_python
from plait.data.disk import shards_of
from plait.data.features import FeatureType, List, arrow_of
from plait.data.pictures import Audio, Image
from plait.data.schema import schema_of
from plait.errors import DataError, HubError, OptionError

if TYPE_CHECKING:
    from plait.data.dataset import Dataset
    from plait.data.dataset_dict import DatasetDict
    from plait.hub.upload import Destination, Seen

log = logger("data")

_SPLIT = re.compile(r"\w+(\.\w+)*")
_TRIES = 5  # when others commit at the same time


def push_to_hub(
    self: Dataset,
    repo_id: str,
    config_name: str = "default",
    *,
    set_default: bool | None = None,
    split: str | None = None,
    data_dir: str | None = None,
    commit_message: str | None = None,
    commit_description: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    max_shard_size: str | int | None = None,
    num_shards: int | None = None,
    embed_external_files: bool = True,
    num_proc: int | None = None,
) -> Any:
    """Upload the data set as one split (`split`, else its own, else "train") of a repository of HF_ENDPOINT.

    The files are of about `max_shard_size` ("500MB") or `num_shards` in number, written by `num_proc` threads, and lie
    in `data_dir`: "data", or the name of the configuration. Pictures and sounds that are paths become bytes, unless
    `embed_external_files=False`. `token` is one that may write (HF_TOKEN, or that of `hf auth login`). `private` counts
    for a new repository; `revision` is the branch, `create_pr` proposes the change. Returns huggingface_hub's
    `CommitInfo`. Raises `HubError` when the hub refuses, `DataError` when the columns differ from those of splits that
    are there already.
    """
    if max_shard_size is not None and num_shards is not None:
        raise OptionError("Give max_shard_size or num_shards, not both.")
    name = str(split or self.split or "train")
    return _Upload(
        splits={name: self},
        config_name=config_name,
        set_default=bool(set_default),
        data_dir=data_dir,
        commit_message=commit_message,
        commit_description=commit_description,
        create_pr=bool(create_pr),
        max_shard_size=max_shard_size,
        num_shards={name: num_shards},
        embed_external_files=embed_external_files,
        num_proc=num_proc,
        whole=False,
    ).to(repo_id, private=private, token=token, revision=revision)


def push_dict_to_hub(
    self: DatasetDict,
    repo_id: str,
    config_name: str = "default",
    *,
    set_default: bool | None = None,
    data_dir: str | None = None,
    commit_message: str | None = None,
    commit_description: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    max_shard_size: str | int | None = None,
    num_shards: Mapping[str, int] | None = None,
    embed_external_files: bool = True,
    num_proc: int | None = None,
) -> Any:
    """Upload all splits, which then are all that the configuration has; the arguments are those of `Dataset`'s.

    `num_shards` counts the files of each split, `{"train": 8, "test": 1}`; a split that it leaves out has files of
    about `max_shard_size`.
    """
    if not self:
        raise DataError("There is no split to upload.")
    for name in num_shards or {}:
        if name not in self:
            raise OptionError(f"num_shards names the split {name!r}, but the splits are {list(self)}.")
    first = next(iter(self.values()))
    for name, dataset in self.items():
        if dataset.features != first.features:
            raise DataError(f"All splits need the same columns, but {next(iter(self))!r} and {name!r} differ.")
    return _Upload(
        splits=dict(self),
        config_name=config_name,
        set_default=bool(set_default),
        data_dir=data_dir,
        commit_message=commit_message,
        commit_description=commit_description,
        create_pr=bool(create_pr),
        max_shard_size=max_shard_size,
        num_shards=dict(num_shards or {}),
        embed_external_files=embed_external_files,
        num_proc=num_proc,
        whole=True,
    ).to(repo_id, private=private, token=token, revision=revision)


@dataclass(frozen=True, kw_only=True)
class _Upload:
    """What is uploaded, and how; `whole`: the splits are all that the configuration has."""

    splits: Mapping[str, Dataset]
    config_name: str
    set_default: bool
    data_dir: str | None
    commit_message: str | None
    commit_description: str | None
    create_pr: bool
    max_shard_size: str | int | None
    num_shards: Mapping[str, int | None]
    embed_external_files: bool
    num_proc: int | None
    whole: bool

    def __post_init__(self) -> None:
        if self.config_name == "data":
            raise OptionError(
                "A configuration cannot be called 'data': that is the folder of the one called 'default'."
            )
        for name in self.splits:
            if not _SPLIT.fullmatch(name):
                raise OptionError(f"A split is called with letters, digits, '_' and single dots, not {name!r}.")

    @property
    def folder(self) -> str:
        """Where the files lie in the repository."""
        return (self.data_dir or ("data" if self.config_name == "default" else self.config_name)).strip("/")

    def to(self, repo_id: str, *, private: bool | None, token: str | None, revision: str | None) -> Any:
        """Write the files, and upload them in one commit."""
        from plait.hub.upload import Destination

        destination = Destination(repo_id, token=token, revision=revision)
        with tempfile.TemporaryDirectory(prefix="plait-push-") as scratch:
            files = {name: self._written(name, Path(scratch) / name) for name in self.splits}
            destination.open(private=private)
            return self._committed(destination, files)

    def _written(self, split: str, scratch: Path) -> dict[str, Path]:
        """The rows of a split in Parquet files, by their paths in the repository."""
        dataset, shards = self.splits[split], self.num_shards.get(split)
        limit = None if shards is not None else self.max_shard_size
        count = shards_of(dataset, max_shard_size=limit, num_shards=shards, num_proc=self.num_proc)
        scratch.mkdir()
        paths = [scratch / f"{split}-{index:05d}-of-{count:05d}.parquet" for index in range(count)]
        with bar(f"write {split}", total=len(dataset), unit="rows") as progress:

            def write(index: int) -> None:
                part = dataset.shard(count, index)
                write_parquet(part, paths[index], embed=self.embed_external_files)
                progress.advance(len(part))

            with ThreadPoolExecutor(self.num_proc or 1) as pool:
                list(pool.map(write, range(count)))
        return {f"{self.folder}/{path.name}": path for path in paths}

    def _committed(self, destination: Destination, files: Mapping[str, Mapping[str, Path]]) -> Any:
        """One commit of the files and the README, on top of what is there; anew when another commit came between."""
        from plait.hub.upload import Moved

        additions: dict[str, Path | bytes] = {path: file for group in files.values() for path, file in group.items()}
        for _ in range(_TRIES):
            seen = destination.look()
            old = {name: _files_of(seen, self.folder, name) for name in self.splits}
            card = updated_card(destination.text("README.md", seen), self._update(files, old, seen))
            try:
                return destination.commit(
                    {**additions, "README.md": card.encode()},
                    [path for paths in old.values() for path in paths if path not in additions],
                    seen=seen,
                    message=self.commit_message or "Upload dataset",
                    description=self.commit_description,
                    create_pr=self.create_pr,
                )
            except Moved as moved:
                log.info("%s, so the upload is tried again", moved)
        raise HubError(f"{destination.name} was changed by others {_TRIES} times during the upload. Try again later.")

    def _update(self, files: Mapping[str, Mapping[str, Path]], old: Mapping[str, Sequence[str]], seen: Seen) -> Update:
        """What the README says anew."""
        uploaded = {
            name: Uploaded(
                rows=len(dataset),
                bytes_of_rows=dataset.table.nbytes,
                bytes_of_files=sum(file.stat().st_size for file in files[name].values()),
                bytes_replaced=sum(seen.files[path] for path in old[name]),
            )
            for name, dataset in self.splits.items()
        }
        return Update(
            config_name=self.config_name,
            data_dir=self.folder,
            features=next(iter(self.splits.values())).features,
            set_default=self.set_default,
            whole=self.whole,
            splits=uploaded,
            files=tuple(seen.files),
        )


def _files_of(seen: Seen, folder: str, split: str) -> list[str]:
    """The files of a split that are there already."""
    pattern = re.compile(rf"{re.escape(f'{folder}/{split}-')}\d{{5}}-of-\d{{5}}.*\.parquet")
    return [path for path in seen.files if pattern.fullmatch(path)]


def write_parquet(dataset: Dataset, path: Path, *, embed: bool) -> None:
    """Write the rows to one Parquet file; with `embed`, pictures and sounds that are paths become bytes."""
    import pyarrow.parquet as parquet

    schema = schema_of(dataset.features)
    outside = [name for name, feature in dataset.features.items() if embed and _has_media(feature)]
    with parquet.ParquetWriter(path, schema) as writer:
        for _, arrays in dataset.table.blocks(size=max(1, dataset.table.block_rows(limit=1 << 14) * 16)):
            for name in outside:
                feature = dataset.features[name]
                values = [_embedded(feature, value) for value in to_python(arrays[name])]
                arrays[name] = pa.array(values, type=arrow_of(feature))
            writer.write_table(pa.table(list(arrays.values()), schema=schema))
        if not len(dataset):
            writer.write_table(schema.empty_table())


def _has_media(feature: FeatureType) -> bool:
    if isinstance(feature, dict):
        return any(map(_has_media, feature.values()))
    if isinstance(feature, List):
        return _has_media(feature.feature)
    return isinstance(feature, Image | Audio)


def _embedded(feature: FeatureType, value: Any) -> Any:
    """A value whose pictures and sounds are bytes with the name of their file, wherever they lie in it."""
    if value is None:
        return None
    if isinstance(feature, dict):
        return {name: _embedded(inner, value[name]) for name, inner in feature.items()}
    if isinstance(feature, List):
        return [_embedded(feature.feature, item) for item in value]
    if not isinstance(feature, Image | Audio):
        return value
    data, path = value["bytes"], value["path"]
    if data is None and path is not None:
        if not Path(path).is_file():
            raise DataError(f"{path} is not there any more, so it cannot be uploaded. Bring it back.")
        data = Path(path).read_bytes()
    return {"bytes": data, "path": None if path is None else Path(path).name}
