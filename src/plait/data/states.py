"""What makes one object differ from another of its class, complete: values of well-known libraries by their content,
others as they would be copied.
"""

from __future__ import annotations

import copyreg
import hashlib
import sys
from typing import Any

from plait.data.libraries import Unhashable, file_of, is_library, version_of


def content_of(value: Any) -> list[str] | None:
    """Values of well-known libraries whose content is quicker to hash than to walk; no library is imported for it."""
    module = type(value).__module__.partition(".")[0]
    # a masked array or another subclass holds more than its numbers; objects are pointers
    if module == "numpy" and hasattr(value, "dtype") and not value.dtype.hasobject and _is_plain_numpy(value):
        import numpy as np

        array = np.ascontiguousarray(value)
        data = array.view(np.uint8).data if array.size and array.dtype.kind not in "Mm" else array.tobytes()
        return ["numpy", str(array.dtype), str(value.shape), hashlib.blake2b(data).hexdigest()]
    if module == "torch" and type(value).__name__ in ("Tensor", "Parameter") and _is_plain_tensor(value):
        import torch

        # (…) -> bytes; a view as bytes exists for every dtype, unlike a NumPy array
        flat = value.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
        data = flat.view(torch.uint8).numpy().data if flat.numel() else b""
        return ["torch", str(value.dtype), str(tuple(value.shape)), hashlib.blake2b(data).hexdigest()]
    if module == "tokenizers" and hasattr(value, "to_str"):
        return ["tokenizer", version_of("tokenizers"), hashlib.blake2b(value.to_str().encode()).hexdigest()]
    if module == "pyarrow" and hasattr(value, "schema") and hasattr(value, "to_batches"):
        from plait.data.fingerprint import table_digest
        from plait.data.schema import features_of
        from plait.data.table import Table

        return ["table", table_digest(Table.from_arrow(value), features_of(value.schema))]
    if type(value).__module__ == "plait.data.dataset":
        return ["data set", value.fingerprint]
    return None


def _is_plain_numpy(value: Any) -> bool:
    import numpy as np

    return type(value) in (np.ndarray, np.memmap) or isinstance(value, np.generic)


def _is_plain_tensor(value: Any) -> bool:
    """Whether the numbers of a tensor are its memory: not so for sparse, quantised and meta tensors."""
    return str(value.layout) == "torch.strided" and value.device.type != "meta" and not value.is_quantized


def state_of(value: Any, path: tuple[str, ...]) -> dict[str, Any]:
    """What makes one object differ from another of its class, as it would be copied: attributes, and how it is made."""
    try:
        registered = copyreg.dispatch_table.get(type(value))
        reduced: Any = value.__reduce_ex__(2) if registered is None else registered(value)
    except Exception as error:  # whatever it is: the object has no state to show
        raise unhashable(value, path) from error
    if isinstance(reduced, str):
        return _named(value, reduced, path)
    make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    found: dict[str, Any] = {}
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):  # a dict, and slots
        found = {**(state[0] or {}), **state[1]}
    elif isinstance(state, dict):
        found = dict(state)
    elif state is not None:
        found = {"state": state}
    if make is not copyreg.__newobj__ or len(arguments) > 1:  # type: ignore[attr-defined]
        found["made by"] = [make, *arguments]
    if items is not None:
        found["items"] = list(items)
    if pairs is not None:
        found["pairs"] = list(pairs)
    return found


def _named(value: Any, name: str, path: tuple[str, ...]) -> dict[str, Any]:
    """The state of an object that is copied by its name alone, as `numpy.add` is: the library that has the name."""
    for module, content in list(sys.modules.items()):
        if getattr(content, "__dict__", {}).get(name) is value and is_library(module, file_of(module)):
            return {"name": name, "library": module.partition(".")[0], "version": version_of(module)}
    kind = type(value)
    if not hasattr(value, "__dict__") or is_library(kind.__module__, file_of(kind.__module__)):
        raise unhashable(value, path)  # what it holds, as the ufunc of a Python function does, cannot be seen
    return {"name": name, **vars(value)}


def unhashable(value: Any, path: tuple[str, ...]) -> Unhashable:
    """The error for a value whose state is not known."""
    return Unhashable(
        f"{' → '.join(path)} is a {type(value).__module__}.{type(value).__qualname__}, whose state is not known"
    )
