import subprocess
import sys

CODE = """
import sys, warnings
import torch
filters, modules = list(warnings.filters), set(sys.modules)
import hadamem
assert warnings.filters == filters, warnings.filters
heavy = {name.partition(".")[0] for name in set(sys.modules) - modules} & {
    "numba", "llvmlite", "triton", "matplotlib", "gymnasium", "popgym", "tyro", "rich", "plotly"
}
assert not heavy, heavy
hadamem.PPO  # with environments and commands
from hadamem.report import curves, figures
assert "matplotlib.pyplot" not in sys.modules  # which chooses a backend for the whole program
"""


def test_importing_changes_nothing_else() -> None:
    subprocess.run([sys.executable, "-W", "default", "-c", CODE], check=True, timeout=120)
