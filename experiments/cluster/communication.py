"""Predicts the efficiency of N GPUs from the time of a step and the time of its all-reduce.

  python experiments/cluster/communication.py [--step=0.2] [--bytes=113142520] [--latency=20e-6]

Weak scaling, with a fixed batch per GPU: efficiency = compute / (compute + communication). Communication does not
overlap with computation, because one all-reduce averages the gradients of all networks after the last of them has been
computed. A ring of N workers sends each byte 2 (N - 1) / N times over every link, in 2 (N - 1) rounds of one latency
each. The losses are a second all-reduce, which costs only latency.
"""

import argparse

# Gradients in float32 of two ResNet-9 generators and two 70 x 70 PatchGANs: 2 (11,378,179 + 2,764,737) x 4 bytes.
GRADIENT_BYTES = 4 * 2 * (11_378_179 + 2_764_737)


def all_reduce_seconds(n: int, n_bytes: int, bytes_per_second: float, latency: float) -> float:
    """Returns the seconds of a ring all-reduce of `n_bytes` over `n` workers, with `latency` seconds per round."""
    return 2 * (n - 1) * (n_bytes / n / bytes_per_second + latency)


def efficiency(n: int, compute: float, n_bytes: int, bytes_per_second: float, latency: float) -> float:
    """Returns the speed of `n` workers, as a share of n times the speed of one whose step takes `compute` seconds."""
    communication = all_reduce_seconds(n, n_bytes, bytes_per_second, latency) + all_reduce_seconds(
        n, 0, bytes_per_second, latency
    )
    return compute / (compute + communication)


def main() -> None:
    """Prints a table with a row for each number of workers and a column for each speed of the links."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", type=float, default=0.2, help="seconds of computation in a step")
    parser.add_argument("--bytes", type=int, default=GRADIENT_BYTES, help="bytes of all gradients")
    parser.add_argument("--latency", type=float, default=20e-6, help="seconds of one round of the ring")
    parser.add_argument("--gigabits", type=float, nargs="+", default=[100, 400], help="speeds of a link, in Gb/s")
    parser.add_argument("--workers", type=int, nargs="+", default=[8, 64, 512], help="numbers of workers")
    args = parser.parse_args()
    print("workers  " + "  ".join(f"{speed:g} Gb/s: efficiency, ms" for speed in args.gigabits))
    for n in args.workers:
        cells = []
        for speed in args.gigabits:
            rate = speed * 1e9 / 8
            seconds = all_reduce_seconds(n, args.bytes, rate, args.latency)
            cells.append(f"{efficiency(n, args.step, args.bytes, rate, args.latency):.3f}, {1e3 * seconds:.1f}")
        print(f"{n:7d}  " + "  ".join(cells))


if __name__ == "__main__":
    main()
