"""Mistakes that are the user's to mend, and how a command ends on them."""

import sys
from collections.abc import Callable


class InputError(ValueError):
    """Something outside the program is not as it must be: a file, a flag, a row.

    Its message is one line that says what was found, where, what was expected and what to do next.
    """


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
