"""The one exception that is shown to the person at the keyboard."""


class InputError(ValueError):
    """Something outside the program is not as it must be: a file, a flag, a row.

    Its message is one line that says what was found, where, what was expected and what to do next. The command line
    prints that line without a traceback and exits with code 2.
    """
