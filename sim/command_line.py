"""What the command lines of the simulated exchange share: exit codes, and errors of one sentence."""

import argparse
import sys
from typing import NoReturn

EXIT_FAULT = 1
EXIT_USAGE = 2


class OneSentenceParser(argparse.ArgumentParser):
    """A parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        """One sentence is written to stderr and the program ends with 2."""
        sys.stderr.write(f"python -m sim: {message} (--help lists the options)\n")
        raise SystemExit(EXIT_USAGE)
