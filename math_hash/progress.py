"""Who sees progress bars."""

import os
import sys


def is_watched() -> bool:
    """Whether somebody sees a progress bar: stderr is a terminal, or this runs in a notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return os.isatty(2) or hasattr(shell, "kernel")
