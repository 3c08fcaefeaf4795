"""Build NUS-WIDE, dataset/nuswide; `--help` says from what."""

import sys

from math_hash.data.building.nuswide import main

if __name__ == "__main__":
    sys.exit(main())
