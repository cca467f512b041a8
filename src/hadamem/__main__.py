"""`python -m hadamem` is `hadamem`."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]  # the current folder, which `hadamem` searches last

from .cli.main import main

main()
