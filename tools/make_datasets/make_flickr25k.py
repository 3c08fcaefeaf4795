"""Build MIRFlickr-25K, dataset/flickr25k; `--help` says from what."""

import sys

from math_hash.data.building.flickr25k import main

if __name__ == "__main__":
    sys.exit(main())
