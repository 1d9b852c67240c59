"""`python -m dm_training.paper`."""

import sys

from dm_training.paper.main import main

if __name__ == "__main__":
    sys.exit(main())
