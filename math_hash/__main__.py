"""`python -m math_hash COMMAND`, which `accelerate launch -m` needs."""

import sys

from math_hash.cli import main

sys.exit(main())
