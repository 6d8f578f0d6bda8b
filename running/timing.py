"""timing.py: time and memory of alternatives that run in turn, and a table of them, for bench.py."""

import os
import statistics
import threading
import time
from pathlib import Path

import torch

from engine.memory import as_text


def seconds(work, device: str) -> float:
    """How long work() takes, with all that it has started on the GPU."""
    begin = time.perf_counter()
    work()
    if device != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - begin


def in_turn(ways: dict, repeats: int, device: str) -> dict:
    """Seconds of each way, run in turn after one run of each that is not counted. Returns what `compare` does.

    A way is called with the number of the repeat.
    """
    times = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, work in ways.items():
            taken = seconds(lambda work=work, repeat=repeat: work(repeat), device)
            if repeat:
                times[name].append(taken)
    return compare(times)


def compare(times: dict[str, list[float]]) -> dict:
    """The times of ways that ran in turn, with their ratios to the first, pair by pair.

    Returns {way: {"seconds": [...], "ratio": median, "ratio_range": [lowest, highest]}}.
    """
    ours, results = next(iter(times.values())), {}
    for name, taken in times.items():
        ratios = [other / own for other, own in zip(taken, ours, strict=True)]
        spread = [min(ratios), max(ratios)]
        results[name] = {"seconds": taken, "ratio": statistics.median(ratios), "ratio_range": spread}
    return results


def peak_memory(work, device: str) -> int | None:
    """The most bytes that work() held beyond what was held before: of a CUDA device, or of the process.

    None where the system does not say: on Apple's GPU, and for a process outside of Linux.
    """
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    if device != "cpu" or not Path("/proc/self/statm").exists():
        return None

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before, peak, over = resident(), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        over.set()
        watcher.join()
    return peak[0] - before


def table(results: dict) -> str:
    """One line per way, with the median of its seconds and its ratio to the project's."""
    lines = [f"{'':<38}{'seconds':>9}{'times ours':>12}   lowest .. highest"]
    for part, result in results.items():
        if "skipped" in result:
            lines.append(f"{part}: skipped; {result['skipped']}")
        for name, way in result.get("ways", {}).items():
            low, high = way["ratio_range"]
            median = statistics.median(way["seconds"])
            line = f"{part + ': ' + name:<38}{median:>9.3f}{way['ratio']:>12.2f}   {low:.2f} .. {high:.2f}"
            lines.append(line + (f"   {way['peak_bytes'] / 1e9:.2f} GB" if way.get("peak_bytes") else ""))
        if "gradient_error" in result:
            lines.append(f"head: relative error of the gradient {result['gradient_error']:.1e}")
        for name, plan in result.get("plans", {}).items():
            lines.append(f"memory, {name}: {as_text(plan)}")
        for name, operations in result.get("profile", {}).items():
            parts = ", ".join(f"{key.removeprefix('aten::')} {part:.0%}" for key, (part, _) in operations.items())
            lines.append(f"profile, {name}: {parts}")
        if "planned_bytes" in result:
            taken = ", ".join(f"{name} {statistics.median(times):.1f} s" for name, times in result["seconds"].items())
            peak = f"{result['peak_bytes'] / 1e9:.1f} GB" if result["peak_bytes"] else "not known"
            lines.append(f"whole: {taken}; memory planned {result['planned_bytes'] / 1e9:.1f} GB, measured {peak}")
        if "passes" in result:
            numbers = {**result["passes"], **result.get("recorded", {})}
            lines.append("agreement: " + ", ".join(f"{name} {value:.3g}" for name, value in numbers.items()))
        if "measured" in result.get("memory", {}):
            planned, measured = result["memory"]["planned"]["sum"] / 1e9, result["memory"]["measured"] / 1e9
            lines.append(f"agreement: memory planned {planned:.1f} GB, measured {measured:.1f} GB")
        if "decode_of_roofline" in result:
            lines.append(
                f"limits: decoding {result['decode_tokens_per_second']:,.0f} tokens/s, "
                f"{result['decode_of_roofline']:.0%} of the roofline; training {result['train_of_peak']:.0%} of peak"
            )
    return "\n".join(lines)
