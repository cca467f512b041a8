"""`python -m hadamem` is `hadamem`."""

from .cli import main

main()
