"""The record of what torch's wheels have machine code for, against the torch that is installed here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

RECORD = Path(__file__).parents[2] / "images" / "torch-wheels.json"


@pytest.mark.skipif(torch.version.cuda is None, reason="this platform's wheel of torch is built without CUDA")
def test_the_installed_torch_has_code_for_the_gpus_that_are_recorded() -> None:
    version = torch.__version__.partition("+")[0]
    (row,) = [row for row in json.loads(RECORD.read_text()) if row["torch"] == version]
    assert torch._C._cuda_getArchFlags().split() == row["architectures"]
    assert torch.version.cuda == row["cuda"]
