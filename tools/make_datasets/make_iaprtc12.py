"""Build IAPR TC-12, dataset/iaprtc12; `--help` says from what."""

import sys

from math_hash.data.building.iaprtc12 import main

if __name__ == "__main__":
    sys.exit(main())
