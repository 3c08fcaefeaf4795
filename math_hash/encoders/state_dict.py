"""Reading weight files without running any code in them.

Plain `state_dict` files are read with `weights_only=True`, safetensors as they are. OpenAI publishes CLIP as a
TorchScript archive, and `torch.jit.load` would run the archive's own code while loading; here only the archive's
tensors are read, by an unpickler that knows tensors and containers and nothing else.
"""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from math_hash.errors import InputError, one_line
from math_hash.files import require_regular

_MOST_MODULES = 100_000  # of a TorchScript archive


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a TorchScript archive, a plain `state_dict` (.pt, .pth) or a .safetensors file.

    A `state_dict` may stand under the key "state_dict", and its names may start with "module.".

    Returns:
        Name -> tensor on the CPU, with the dtypes of the file.

    Raises:
        InputError: the file is missing, damaged, or holds something other than named tensors.
    """
    path = Path(path)
    content: Any
    try:
        require_regular(path)
        if path.suffix == ".safetensors":
            content = load_file(path)
        elif _is_torchscript(path):
            content = _read_torchscript(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such weight file") from error
    except Exception as error:  # damaged archives and pickles raise many kinds
        raise InputError(
            f"{path}: not a readable weight file ({one_line(error)}); expected a state_dict, a TorchScript archive or "
            "safetensors; download or copy it again"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path}: does not hold a state_dict (names and tensors); was it saved as a whole object?")
    if any(value.layout != torch.strided or value.is_meta or value.is_quantized for value in content.values()):
        raise InputError(f"{path}: holds sparse, quantized or empty tensors; save it with plain ones")
    if sum(value.nbytes for value in content.values()) > _most_bytes(path):
        raise InputError(f"{path}: its tensors have more numbers than the file holds; download or copy it again")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def _most_bytes(path: Path) -> int:
    """What the tensors of a file may take: tensors are not compressed, but some share their numbers."""
    return 4 * path.stat().st_size + (1 << 24)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > _most_bytes(path):
            raise ValueError("its parts would be many times as large as the file")
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


class _Module:
    """Stands for any scripted module; unpickling fills its attributes: parameters, buffers, submodules, constants."""


class _TensorUnpickler(pickle._Unpickler):
    """Reads the pickle of a TorchScript archive. Every class but tensors' and containers' is refused.

    The unpickler written in Python: in the one in C, a few bytes name a place that takes gigabytes to keep.
    """

    def __init__(self, archive: zipfile.ZipFile, root: str):
        super().__init__(archive.open(f"{root}/data.pkl"))
        self._archive, self._root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Module
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch" and name.endswith("Storage"):
            return name
        if module == "torch.jit._pickle" and name.startswith("build_"):
            return list
        if (module, name) == ("torch.jit._pickle", "restore_type_tag"):
            return _first
        raise pickle.UnpicklingError(f"the archive refers to {module}.{name}, which is not data")

    def persistent_load(self, reference: tuple) -> Tensor:
        _, storage, key, _, count = reference
        dtype = _STORAGES[storage]
        return torch.frombuffer(bytearray(self._archive.read(f"{self._root}/data/{key}")), dtype=dtype, count=count)


_STORAGES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
}


def _rebuild_tensor(storage: Tensor, offset: int, size: tuple, stride: tuple, *_: Any) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _first(value: Any, *_: Any) -> Any:
    return value


def _read_torchscript(path: Path) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as archive:
        root = next(name for name in archive.namelist() if name.endswith("/constants.pkl")).split("/")[0]
        tensors: dict[str, Tensor] = {}
        modules = [("", _TensorUnpickler(archive, root).load())]
    for prefix, module in modules:  # grows while it is read
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                tensors[prefix + name] = value
            elif isinstance(value, _Module):
                modules.append((f"{prefix}{name}.", value))
        if len(modules) > _MOST_MODULES:
            raise ValueError(f"more than {_MOST_MODULES:,} modules, or modules that hold each other")
    return tensors
