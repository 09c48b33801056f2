"""Run one pass and print the peak memory of this process in MiB.

    python _peak_memory.py N_IMAGES POOLINGS

Without poolings ("") it is the bare forward pass. `_network_speed.py` runs this in processes of
their own.
"""

import sys
from pathlib import Path

from _network_speed import extractor, forward, make_images, vgg


def peak_in_mib() -> float:
    """The high-water mark of this program's memory; NaN where the system does not tell.

    Not that of ``resource.getrusage``, which starts at the mark of the process that started this
    one.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) / 1024


def main() -> None:
    n_images, poolings = int(sys.argv[1]), sys.argv[2]
    network, images = vgg(), make_images(n_images)
    if poolings:
        extractor(network, tuple(poolings.split(","))).fit_transform(images)
    else:
        forward(network, images)
    print(peak_in_mib())


if __name__ == "__main__":
    main()
