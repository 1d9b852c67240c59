"""`python -m dm_training.benchmark`."""

import sys

from dm_training.benchmark.main import main

if __name__ == "__main__":
    sys.exit(main())
