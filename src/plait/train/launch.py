"""What training arguments say of this process among those of a launch, complete; scripts log it and ask for it."""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from plait import settings


class Launched(ABC):
    """The place of this process under torchrun, and what follows from it; one process when there was no launch."""

    @property
    @abstractmethod
    def device(self) -> Any:
        """Where the model goes."""

    @property
    def world_size(self) -> int:
        """How many processes train together."""
        return settings.torchrun().processes

    @property
    def process_index(self) -> int:
        """The number of this process among all."""
        return settings.torchrun().rank

    @property
    def local_process_index(self) -> int:
        """The number of this process among those of its machine."""
        return settings.torchrun().local_rank

    @property
    def n_gpu(self) -> int:
        """The GPUs of this process: one, or none."""
        return int(self.device.type != "cpu")

    @property
    def should_save(self) -> bool:
        """Whether this process writes files."""
        return self.process_index == 0

    @property
    def should_log(self) -> bool:
        """Whether this process prints."""
        return self.process_index == 0

    def get_process_log_level(self) -> int:
        """The level of log records to show: plait's own in the main process, errors alone in the others."""
        return logging.getLogger("plait").getEffectiveLevel() if self.should_log else logging.ERROR

    @contextmanager
    def main_process_first(self, local: bool = True, desc: str = "work") -> Iterator[None]:
        """A block that any process may run at once: what `map` keeps is safe for several, so nobody waits."""
        yield

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Every field, as JSON can hold it."""

    def to_json_string(self) -> str:
        """Every field, as JSON text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)
