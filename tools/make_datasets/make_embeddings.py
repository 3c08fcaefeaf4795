"""Build a dataset from embeddings, dataset/mine; `--help` says from which."""

import sys

from math_hash.data.building.embeddings import main

if __name__ == "__main__":
    sys.exit(main())
