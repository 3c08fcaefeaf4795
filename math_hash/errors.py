"""Errors that the user can fix, and how a command ends on them."""

import importlib
import re
import sys
from collections.abc import Callable
from types import ModuleType

# flags of options that are not the option's name with dashes
_FLAGS = {"method_options": "--set", "label_t_file": "--label_t-file"}


class InputError(ValueError):
    """Something outside the program is wrong: a file, an option, a row.

    Its message is one line that says what was found, where, what was expected and what to do next. It names an option
    as Python does, in backticks: "`k_bits`: 0 is below 1". Commands print the option's flag instead.
    """


def flag(option: str) -> str:
    """The command-line flag of an option.

    >>> flag("k_bits")
    '--k-bits'
    """
    return _FLAGS.get(option) or f"--{option.replace('_', '-')}"


def with_flags(message: str) -> str:
    """The message of an `InputError` as a command prints it, with flags in place of options.

    >>> with_flags("`max_words` 30: this encoder reads at most 24 tokens; see `math-hash train --help`")
    '--max-words 30: this encoder reads at most 24 tokens; see `math-hash train --help`'
    """
    return re.sub(r"`(\w+)`", lambda option: flag(option[1]), message)


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


def one_line(error: object) -> str:
    """The message of another package's error, cut to one line of 200 characters."""
    return " ".join(str(error).split())[:200]


def exit_code(task: Callable[[], None]) -> int:
    """Run a command's task. Returns 0, 2 after an `InputError`, printed as one line, or 130 after an interruption."""
    try:
        task()
    except InputError as error:
        print(f"error: {with_flags(' '.join(str(error).split()))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0
