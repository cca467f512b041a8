import os
import re
import subprocess
import sys

import pytest

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


@pytest.mark.parametrize("own", [{}, {"GOMP_SPINCOUNT": "777"}, {"OMP_WAIT_POLICY": "passive"}], ids=str)
def test_threads_that_wait_for_work_sleep_soon_unless_the_user_chose_otherwise(own: dict[str, str]) -> None:
    mine = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    code = "import os; before = dict(os.environ); import hadamem; assert dict(os.environ) == before"
    environment = mine | own | {"OMP_DISPLAY_ENV": "VERBOSE"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60)
    told = re.search("GOMP_SPINCOUNT = '([0-9]+)'", done.stderr)
    if told is None:
        pytest.skip("torch's OpenMP library is not libgomp")
    rounds = int(told[1])
    assert rounds == int(own["GOMP_SPINCOUNT"]) if "GOMP_SPINCOUNT" in own else 0 <= rounds < 100_000
    assert (rounds == 0) == ("OMP_WAIT_POLICY" in own)
