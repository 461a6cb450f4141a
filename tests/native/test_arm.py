"""The Arm kernels, cross-compiled and run under emulation."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which("aarch64-linux-gnu-g++")
EMULATOR = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")


@pytest.mark.skipif(
    COMPILER is None or EMULATOR is None,
    reason="needs aarch64-linux-gnu-g++ and qemu-aarch64 (packages g++-aarch64-linux-gnu, qemu-user)",
)
def test_arm_kernels_equal_portable(tmp_path: Path) -> None:
    assert COMPILER is not None
    assert EMULATOR is not None
    native, program = ROOT / "native", tmp_path / "compare"
    sources = [
        Path(__file__).parent / "compare_isas.cpp",
        *(
            native / f"{n}.cpp"
            for n in (
                "layer",
                "layer_dense",
                "layer_depthwise",
                "parameters",
                "dispatch",
                "threads",
                "kernels_portable",
            )
        ),
    ]
    flags = ["-std=c++20", "-O2", "-ffp-contract=off", "-DOPENKPU_ARM64=1", "-I", str(native)]
    neon = tmp_path / "neon.o"
    subprocess.run(
        [COMPILER, *flags, "-march=armv8.2-a+dotprod", "-c", native / "kernels_neondot.cpp", "-o", neon], check=True
    )
    subprocess.run([COMPILER, *flags, "-static", "-pthread", *sources, neon, "-o", program], check=True)
    done = subprocess.run([EMULATOR, program, "120"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("neondot portable")
