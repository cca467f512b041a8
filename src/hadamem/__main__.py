"""Run the command line: `python -m hadamem` is the same as `hadamem`."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]  # the current folder, which the command `hadamem` puts last in the search path

from .cli.main import main

main()
