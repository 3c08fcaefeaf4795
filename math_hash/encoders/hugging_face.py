"""The Hugging Face hub: asking it, and the configurations of text towers there."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_session

from math_hash.errors import InputError, import_extra, one_line

# where it was read, what it was saved with, and references to code, which is never run
_LEFT_OUT = ("_name_or_path", "auto_map", "transformers_version", "dtype", "torch_dtype")


def first_sentence(error: Exception) -> str:
    """Of what the hub's libraries say, what went wrong, without their advice."""
    return one_line(error).partition(". ")[0].rstrip(".")


@contextmanager
def asking_the_hub(source: str | Path) -> Iterator[None]:
    """Inside, a hub that does not answer is asked once, not for a minute, and its libraries log nothing.

    What is in the hub's cache is found all the same, and what fails is raised, for us to say in one line.

    Args:
        source: what is asked for; where it is a folder, no hub is needed.
    """
    was_offline, disabled = constants.HF_HUB_OFFLINE, logging.root.manager.disable
    try:
        if not Path(source).is_dir():
            get_session().head(constants.ENDPOINT, timeout=10)
    except Exception:  # of requests or httpx, by the hub's version
        constants.HF_HUB_OFFLINE = True
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = was_offline
        logging.disable(disabled)


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
        with asking_the_hub(source):
            config = transformers.AutoConfig.from_pretrained(str(source), trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"the text tower {name}: its configuration cannot be read ({first_sentence(error)}); without network, put "
            f"https://huggingface.co/{name}/resolve/main/config.json into {folder or 'FOLDER'}/{name}/ and give "
            "FOLDER, with the model's open_clip_config.json, as `encoder`"
        ) from error
    content = json.loads(config.to_json_string(use_diff=False))
    return {key: value for key, value in content.items() if key not in _LEFT_OUT}
