"""Build a dataset from your own collection, dataset/mine; `--help` says from what."""

import sys

from math_hash.data.building.custom import main

if __name__ == "__main__":
    sys.exit(main())
