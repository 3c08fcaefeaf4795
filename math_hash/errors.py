"""Mistakes that are the user's to mend, and how a command ends on them."""

import importlib
import sys
from collections.abc import Callable
from types import ModuleType


class InputError(ValueError):
    """Something outside the program is not as it must be: a file, a flag, a row.

    Its message is one line that says what was found, where, what was expected and what to do next.
    """


def import_extra(name: str, extra: str, where: object) -> ModuleType:
    """Import a package that only `pip install 'math_hash[extra]'` brings.

    Raises:
        InputError: it is not installed; `where` is what needs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"{where}: needs `pip install 'math_hash[{extra}]'` ({name} is missing)") from error


def one_line(error: Exception) -> str:
    """What another package's error says, cut to one line of 200 characters."""
    return " ".join(str(error).split())[:200]


def exit_code(task: Callable[[], None]) -> int:
    """Run a command's task: 0, or 2 after an `InputError`, printed as one line, or 130 after an interruption."""
    try:
        task()
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0
