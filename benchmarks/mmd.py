"""The kernel two-sample test: time against alibi-detect, and memory at many rows.

    python benchmarks/mmd.py                      # some minutes; --quick: seconds
    python benchmarks/mmd.py --alibi FOLDER       # where alibi-detect is installed

alibi-detect wants old versions of NumPy and others; ``pip install --no-deps --target
FOLDER alibi-detect dill catalogue toml`` keeps it apart, and the libraries that its
PyTorch test never calls are stood in for. Without it, its algorithm is timed as written
out below (`permutation_loop`), and the result says so.

All is timed in one process with one thread, in turns; what counts are ratios of medians
of processor time. The time of the loop grows evenly with the permutations, so it is
measured at two small numbers of them and extended to 1000, unless --full is given.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import MagicMock

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402 - threads are counted when it loads
import torch  # noqa: E402 - as above

from napari_hydraseg.core import (  # noqa: E402 - as above
    Volume,
    get_model,
    mmd,
    mmd_test,
    shift,
)

Test = Callable[[np.ndarray, np.ndarray, int], object]

FEW, MORE = 2, 12  # permutations that the loop is timed with
GOAL_SPEED, GOAL_BINS, GOAL_MIB, GOAL_SCAN = 40.0, 3.0, 400.0, 20.0
ABSENT = ("transformers", "numba")  # imported by alibi-detect, not called here


def samples(n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two samples of float32 that differ slightly."""
    rng = np.random.default_rng(seed)
    x, y = (rng.standard_normal((n, d), dtype=np.float32) for _ in range(2))
    return x, y + np.float32(0.02)


def permutation_loop(x: np.ndarray, y: np.ndarray, permutations: int) -> float:
    """Unbiased MMD^2 and p by shuffling the kernel matrix anew for each permutation.

    The algorithm of alibi-detect's MMDDrift with PyTorch: one kernel matrix, and for
    each permutation its rows and columns re-indexed and three of its parts summed.
    """
    rows = torch.from_numpy(np.concatenate((x, y)))
    squared = torch.cdist(rows, rows) ** 2
    n = len(x)
    kernel = torch.exp(-squared / squared.median())
    kernel.fill_diagonal_(0)

    def statistic(values: torch.Tensor) -> float:
        m = len(values) - n
        inside = values[:n, :n].sum() / (n * (n - 1))
        beyond = values[n:, n:].sum() / (m * (m - 1))
        return float(inside + beyond - 2 * values[:n, n:].mean())

    observed, above = statistic(kernel), 0
    for _ in range(permutations):
        order = torch.randperm(len(rows))
        above += statistic(kernel[order][:, order]) >= observed
    return above / permutations


def alibi(folder: Path | None) -> Test | None:
    """alibi-detect's test, or None if it cannot be imported."""
    if folder is not None:
        sys.path.append(str(folder))
    for name in ABSENT:
        sys.modules.setdefault(name, MagicMock())
    try:
        from alibi_detect.cd.pytorch.mmd import MMDDriftTorch
    except ImportError:
        return None

    def run(x: np.ndarray, y: np.ndarray, permutations: int) -> object:
        return MMDDriftTorch(x, n_permutations=permutations, device="cpu").predict(y)

    return run


def seconds(job: Callable[[], object]) -> float:
    """Processor time of a job."""
    start = time.process_time()
    job()
    return time.process_time() - start


def extended(job: Test, x: np.ndarray, y: np.ndarray, permutations: int) -> float:
    """Processor time of so many permutations, from two small numbers of them."""
    few = seconds(lambda: job(x, y, FEW))
    more = seconds(lambda: job(x, y, MORE))
    each = (more - few) / (MORE - FEW)
    return few + each * (permutations - FEW)


def speed(peer: Test, *, n: int, d: int, repeats: int, full: bool) -> dict[str, float]:
    """Medians of ours and the peer's time for 1000 permutations, taken in turns."""
    x, y = samples(n, d)
    mmd_test(x, y, permutations=FEW)  # what is only loaded once is loaded
    peer(x, y, FEW)
    ours, theirs = [], []
    for _ in range(repeats):
        ours.append(seconds(lambda: mmd_test(x, y, permutations=1000)))
        if full:
            theirs.append(seconds(lambda: peer(x, y, 1000)))
        else:
            theirs.append(extended(peer, x, y, 1000))
    return {"ours": statistics.median(ours), "peer": statistics.median(theirs)}


def bins(*, n: int, d: int, repeats: int) -> dict[str, float]:
    """Medians of the time with whole permutations and with permutations of bins."""
    x, y = samples(n, d)
    found: dict[str, list[float]] = {"exact": [], "binned": []}
    for _ in range(repeats):
        for name, times in found.items():
            job = {"permutations": 1000, "binned": name == "binned"}
            times.append(seconds(lambda job=job: mmd_test(x, y, **job)))
    return {name: statistics.median(times) for name, times in found.items()}


def memory(n: int, d: int) -> dict[str, float]:
    """Peak memory of fresh processes above what they held before, in MiB."""
    found = {}
    for way in ("mmd", "binned", "exact"):
        call = [sys.executable, __file__, "--child", way, str(n), str(d)]
        done = subprocess.run(call, capture_output=True, text=True, check=True)
        found[way] = float(json.loads(done.stdout))
    return found


def child(way: str, n: int, d: int) -> float:
    """Do one job; how many MiB the process grew by at most."""
    small = samples(300, d)
    mmd(*small)
    mmd_test(*small, permutations=10)
    x, y = samples(n, d)
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    if way == "mmd":
        mmd(x, y)
    else:
        mmd_test(x, y, permutations=1000, binned=way == "binned")
    return status("VmHWM") - before


def status(field: str) -> float:
    """A size in MiB that Linux tells of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(s.split()[1]) for s in lines if s.startswith(field)) / 1024


def judged(slices: int, side: int) -> dict[str, float]:
    """Seconds until a scan is judged, between two steps, and for a cancel.

    On the wall clock and with all threads: it is what a person waits for.
    """
    model = get_model("hydranet")
    grey = np.random.default_rng(0).normal(100, 20, (1, slices, side, side))
    scan = Volume(grey.astype(np.float32), np.eye(4), modality="MR")
    moments = [time.perf_counter()]
    for _ in shift(scan, model, head="heart"):
        moments.append(time.perf_counter())
    moments.append(time.perf_counter())
    begun = shift(scan, model, head="heart")
    next(begun)
    start = time.perf_counter()
    begun.close()
    return {
        "took": moments[-1] - moments[0],
        "longest": float(np.diff(moments).max()),
        "steps": len(moments) - 2,
        "cancel": time.perf_counter() - start,
    }


def verdict(what: str, value: float, goal: float, *, at_most: bool = False) -> str:
    met = value <= goal if at_most else value >= goal
    return f"{what}: {value:.1f} (goal {goal:g}: {'met' if met else 'MISSED'})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--alibi", type=Path, help="folder that alibi-detect is in")
    parser.add_argument("--quick", action="store_true", help="small, judges nothing")
    parser.add_argument("--full", action="store_true", help="extend nothing")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.child:
        way, n, d = asked.child
        print(json.dumps(child(way, int(n), int(d))))
        return
    n, many, most = (200, 1000, 2000) if asked.quick else (1000, 5120, 20000)
    peers: dict[str, Test] = {"permutation loop (PyTorch)": permutation_loop}
    installed = alibi(asked.alibi)
    if installed is not None:
        peers = {"alibi-detect MMDDrift (PyTorch)": installed} | peers
    else:
        print("alibi-detect is not here: its algorithm as written out is timed.")
    lines = []
    for name, peer in peers.items():
        took = speed(peer, n=n, d=512, repeats=asked.repeats, full=asked.full)
        print(
            f"n = m = {n}, d = 512, 1000 permutations: HydraSeg {took['ours']:.2f} s,"
        )
        print(f"  {name} {took['peer']:.1f} s of processor time", flush=True)
        lines.append(verdict(f"times {name}", took["peer"] / took["ours"], GOAL_SPEED))
    took = bins(n=many, d=256, repeats=asked.repeats)
    print(
        f"n = m = {many}, d = 256: whole permutations {took['exact']:.1f} s, ", end=""
    )
    print(f"bins {took['binned']:.1f} s", flush=True)
    ratio = took["exact"] / took["binned"]
    lines.append(verdict("whole permutations over bins", ratio, GOAL_BINS))
    for way, size in memory(most, 256).items():
        text = f"peak MiB above the input, n = m = {most}, d = 256, {way}"
        lines.append(verdict(text, size, GOAL_MIB, at_most=True))
    torch.set_num_threads(os.cpu_count() or 1)
    found = judged(200 if not asked.quick else 20, 256)
    print(
        f"a scan of {20 if asked.quick else 200} slices of 256 x 256: "
        f"{found['steps']:.0f} steps, at most {found['longest']:.1f} s from one to the "
        f"next (as long as a cancel waits), cancelled in {found['cancel']:.2f} s",
        flush=True,
    )
    lines.append(
        verdict("seconds for the scan", found["took"], GOAL_SCAN, at_most=True)
    )
    if asked.quick:
        print("--quick: sizes too small to judge by.")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
