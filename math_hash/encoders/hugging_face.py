"""Configurations of text towers on the Hugging Face hub."""

import json
from pathlib import Path
from typing import Any

from math_hash.errors import InputError, import_extra, one_line

# where it was read, what it was saved with, and references to code, which is never run
_LEFT_OUT = ("_name_or_path", "auto_map", "transformers_version", "dtype", "torch_dtype")


def first_sentence(error: Exception) -> str:
    """Of what the hub's libraries say, what went wrong, without their advice."""
    return one_line(error).partition(". ")[0].rstrip(".")


def fetch_text_config(name: str, folder: Path | None = None) -> dict[str, Any]:
    """The content of a text tower's `config.json`.

    Args:
        name: of the tower's repository on the hub, or a folder.
        folder: where to look first, for a folder of that name.

    Raises:
        InputError: it is not there and cannot be downloaded.
    """
    transformers = import_extra("transformers", "transformers", f"the text tower {name}")
    source = folder / name if folder and (folder / name).is_dir() else name
    try:
        config = transformers.AutoConfig.from_pretrained(str(source), trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"the text tower {name}: its configuration cannot be read ({first_sentence(error)}); without network, put "
            f"https://huggingface.co/{name}/resolve/main/config.json into {folder or 'FOLDER'}/{name}/ and give "
            "FOLDER, with the model's open_clip_config.json, as `encoder`"
        ) from error
    content = json.loads(config.to_json_string(use_diff=False))
    return {key: value for key, value in content.items() if key not in _LEFT_OUT}
