"""`python -m unisono.cli`: the same command line, where the script is not on the path."""

import sys

from .app import main

sys.exit(main())
