"""Errors that the user can fix, and how a command ends on them."""

import importlib
import sys
from collections.abc import Callable
from types import ModuleType


class InputError(ValueError):
    """Something outside the program is wrong: a file, a flag, a row.

    Its message is one line that says what was found, where, what was expected and what to do next.
    """


def import_extra(name: str, extra: str, where: object) -> ModuleType:
    """Import a package that is installed only with `pip install 'math_hash[extra]'`.

    Args:
        name: of the module.
        extra: of math_hash's optional dependencies.
        where: what needs the package, for the message.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"{where}: needs `pip install 'math_hash[{extra}]'` ({name} is missing)") from error


def one_line(error: Exception) -> str:
    """The message of another package's error, cut to one line of 200 characters."""
    return " ".join(str(error).split())[:200]


def exit_code(task: Callable[[], None]) -> int:
    """Run a command's task. Returns its exit code.

    It is 0, or 2 after an `InputError`, or a file or folder that cannot be read or written, which is printed as one
    line, or 130 after an interruption.
    """
    try:
        task()
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except OSError as error:  # such as a run's folder on a disk that has become read-only
        print(f"error: {error.filename or 'a file'}: {error.strerror or one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0
