"""The benchmark of the GPU where there is none; its kernels are tried in tests/ops/test_gpu.py."""

from __future__ import annotations

import pytest
import torch

from hadamem.bench import gpu


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_that_is_said() -> None:
    with pytest.raises(ValueError, match="there is no GPU here that torch can use"):
        gpu.measure_all(str)
