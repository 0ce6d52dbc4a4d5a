"""The transformers engine for real, on a random Phi-3 of a few hundred kilobytes that is made here.

Needs torch, transformers and peft: `make test-models` has them in an environment of its own.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

if importlib.util.find_spec("torch") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    from models.support import AdapterSpec, make_adapter, make_model
    from presets.support import ServerProcess

    @pytest.fixture(scope="session")
    def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Weights of a random Phi-3 with the demo model's tokenizer."""
        return make_model(tmp_path_factory.mktemp("tiny"))

    @pytest.fixture(scope="session")
    def adapters(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Three adapters as PEFT saves them: other ranks, other layers, one with rsLoRA."""
        directory = tmp_path_factory.mktemp("adapters")
        make_adapter(tiny, directory / "one", AdapterSpec(rank=4, alpha=8, seed=1))
        make_adapter(
            tiny, directory / "two", AdapterSpec(rank=8, alpha=8, seed=2, targets=("qkv_proj", "down_proj"))
        )
        make_adapter(tiny, directory / "three", AdapterSpec(rank=2, alpha=4, seed=3, rslora=True))
        return directory

    @pytest.fixture(scope="session")
    def server(
        tiny: Path, adapters: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[ServerProcess]:
        """`kaito-serve` on the random weights, with two adapters."""
        root = tmp_path_factory.mktemp("root")
        (root / "workspace").mkdir()
        (root / "workspace" / "weights").symlink_to(tiny)
        (root / "mnt").mkdir()
        (root / "mnt" / "adapter").symlink_to(adapters)
        process = ServerProcess(
            root, "--preset=tiny", "--engine=transformers", "--adapter=one=0.5", "--adapter=two=1",
            "--max-num-seqs=4", "--max-queued=8",
        )  # fmt: skip
        try:
            yield process.ready()
        finally:
            process.stop()
