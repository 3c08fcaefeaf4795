"""Draw the demo dataset, dataset/demo; `--help` says what is in it."""

import sys

from math_hash.data.building.demo import main

if __name__ == "__main__":
    sys.exit(main())
