import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from nas.training.backend import PLAIN_NORMS, fused_norm_on
from tests.kits.training import norm_that


def release(package: str) -> tuple[int, int]:
    """The installed one; (0, 0) if there is none."""
    try:
        major, minor, *_ = importlib.metadata.version(package).split(".")
    except importlib.metadata.PackageNotFoundError:
        return 0, 0
    return int(major), int(minor)


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="needs Triton, which comes with torch for Linux",
)
@pytest.mark.skipif(
    release("triton") < (3, 8) and release("numpy") >= (2, 5),
    reason="the interpreter of Triton before 3.8 needs numpy below 2.5",
)
def test_a_fused_norm_is_that_of_double_precision_but_for_rounding() -> None:
    # A process of its own: Triton looks at the variable when it is imported.
    checked = subprocess.run(
        [sys.executable, "-m", "tests.kits.norms"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert checked.stdout == "all near\n", checked.stderr


def test_where_kernels_cannot_run_torchs_own_are_taken_and_the_reason_is_kept() -> None:
    device = torch.device("cpu")  # for which Triton has no compiler
    reason = fused_norm_on(device)
    assert isinstance(reason, str)
    assert PLAIN_NORMS not in reason


def test_kernels_that_are_turned_off_are_not_even_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[torch.device] = []
    kernels: Any = ModuleType("nas.training.fused_norms")
    kernels.check_on, kernels.fused_norm = tried.append, norm_that(adds=True)
    monkeypatch.setitem(sys.modules, kernels.__name__, kernels)
    device = torch.device("cuda", 7)  # which no other test asks for: what was tried is kept
    monkeypatch.setenv(PLAIN_NORMS, "1")
    assert fused_norm_on(device) == f"{PLAIN_NORMS} is set"
    assert tried == []
    monkeypatch.delenv(PLAIN_NORMS)
    assert fused_norm_on(device) is kernels.fused_norm
    assert tried == [device]
