"""JSON and YAML texts from outside, read as plain data."""

import json
from typing import Any

import yaml

from math_hash.errors import one_line


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text from outside.

    Raises:
        ValueError: it is not JSON, or nested so deeply that it cannot be read.

    >>> parse_json('{"a": [1, 2]}')
    {'a': [1, 2]}
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


class _PlainLoader(yaml.SafeLoader):
    """Data without aliases, of which a few lines can stand for more than any memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*name); write the value again")
        return super().compose_node(parent, index)


def parse_yaml(text: str | bytes) -> Any:
    """The value of a YAML text from outside: plain data, without aliases.

    Raises:
        ValueError: it is not YAML, has an alias, or is nested so deeply that it cannot be read.

    >>> parse_yaml("widths: [64, 128]")
    {'widths': [64, 128]}
    """
    try:
        return yaml.load(text, _PlainLoader)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except yaml.YAMLError as error:
        raise ValueError(one_line(error)) from error
