"""`python -m sim` runs the simulated exchange."""

import sys

from sim.cli import main

sys.exit(main())
