"""Efficiency of N GPUs on paper: what a step computes, what it sends, and what remains of N times one GPU's speed.

  python experiments/cluster/communication.py [--step=0.2] [--bytes=113142520] [--latency=20e-6]

Weak scaling, batch per GPU fixed: efficiency = compute / (compute + communication), nothing of which overlaps, for the
gradients of all networks are averaged in one all-reduce when the last of them is there. A ring of N sends each byte
2 (N - 1) / N times over every link, in 2 (N - 1) turns of one latency each; the losses are a second all-reduce, of
latency only.
"""

import argparse

# Gradients in float32 of two ResNet-9 generators and two 70 x 70 PatchGANs: 2 (11,378,179 + 2,764,737) x 4 bytes.
GRADIENT_BYTES = 4 * 2 * (11_378_179 + 2_764_737)


def all_reduce_seconds(n, n_bytes, bytes_per_second, latency):
    """Seconds of a ring all-reduce of `n_bytes` over `n` workers."""
    return 2 * (n - 1) * (n_bytes / n / bytes_per_second + latency)


def efficiency(n, compute, n_bytes, bytes_per_second, latency):
    """Speed of `n` workers as a share of n times that of one whose step takes `compute` seconds."""
    communication = all_reduce_seconds(n, n_bytes, bytes_per_second, latency) + all_reduce_seconds(
        n, 0, bytes_per_second, latency
    )
    return compute / (compute + communication)


def main():
    """Prints a table: rows GPUs, columns links."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", type=float, default=0.2, help="seconds that one worker computes in a step")
    parser.add_argument("--bytes", type=int, default=GRADIENT_BYTES, help="of all gradients")
    parser.add_argument("--latency", type=float, default=20e-6, help="seconds of one turn of the ring")
    parser.add_argument("--gigabits", type=float, nargs="+", default=[100, 400], help="per second, of a link")
    parser.add_argument("--workers", type=int, nargs="+", default=[8, 64, 512])
    given = parser.parse_args()
    print("workers  " + "  ".join(f"{speed:g} Gb/s: efficiency, ms" for speed in given.gigabits))
    for n in given.workers:
        cells = []
        for speed in given.gigabits:
            rate = speed * 1e9 / 8
            seconds = all_reduce_seconds(n, given.bytes, rate, given.latency)
            cells.append(f"{efficiency(n, given.step, given.bytes, rate, given.latency):.3f}, {1e3 * seconds:.1f}")
        print(f"{n:7d}  " + "  ".join(cells))


if __name__ == "__main__":
    main()
