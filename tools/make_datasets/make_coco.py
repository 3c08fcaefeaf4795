"""Build MS COCO, dataset/coco; `--help` says from what."""

import sys

from math_hash.data.building.coco import main

if __name__ == "__main__":
    sys.exit(main())
