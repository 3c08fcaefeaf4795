"""python main.py --is-train --dataset flickr25k --k-bits 16, as in the MATH release. See --help."""

import sys

from math_hash.cli import main_py

if __name__ == "__main__":
    sys.exit(main_py())
