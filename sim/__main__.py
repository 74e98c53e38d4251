"""`python -m sim` runs the simulated exchange."""

import sys

from sim import stop_signals

stop_signals.catch()

from sim.cli import main  # noqa: E402 - the signals are caught before anything is imported that takes time

code = main()
stop_signals.ignore()  # Python puts the system's handlers back on its way out, but not over these
sys.exit(code)
