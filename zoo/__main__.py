"""Networks of torchvision, timm, transformers and others, read by skood as its user would.

    python -m zoo                          # all of them, and the tables of the site
    python -m zoo 'timm/resnet*'           # some, by patterns
    python -m zoo --resume                 # those that an interrupted run did not come to
    python -m zoo --check                  # exit with 1 where something is not as expected

Each network has random weights, so nothing is downloaded. It is in training mode before it is read,
and compared with a copy that is called without skood: logits bit by bit, the values of its layers,
the product of features and weights of its head, and all that could be changed by reading it.
"""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import torch

from experiments._common.tables import SITE, write_tables
from experiments._common.torchvision import import_torchvision

from . import other_nets, timm_nets, torchvision_nets, transformers_nets
from .examine import Finding, examine, find_faults
from .records import add_finding, read_findings
from .report import MEASURED, Examined, format_ratio, make_tables
from .specimen import Specimen

OUTPUT = Path("zoo") / "output"


def list_specimens() -> list[Specimen]:
    collections = (torchvision_nets, timm_nets, transformers_nets, other_nets)
    return [specimen for module in collections for specimen in module.list_specimens()]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m zoo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help="names of networks")
    parser.add_argument("--list", action="store_true", help="only name the networks")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 where something is not as expected"
    )
    parser.add_argument(
        "--resume", action="store_true", help="keep the findings of an interrupted run"
    )
    parser.add_argument(
        "--repetitions", type=int, default=3, help="turns that are timed, by default %(default)s"
    )
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, help="folder of the findings, by default %(default)s"
    )
    parser.add_argument(
        "--tables",
        type=Path,
        help="folder for the CSV files that the site shows, by default docs/results/zoo, and none "
        "where patterns are given",
    )
    return parser.parse_args(arguments)


def choose(specimens: list[Specimen], patterns: list[str]) -> list[Specimen]:
    """Those that fit one of the patterns; all where there is none."""
    for pattern in patterns:
        if not any(fnmatchcase(specimen.name, pattern) for specimen in specimens):
            sys.exit(f"No network fits {pattern!r}: --list names all.")
    if not patterns:
        return specimens
    return [s for s in specimens if any(fnmatchcase(s.name, pattern) for pattern in patterns)]


def examine_all(
    specimens: list[Specimen], file: Path, *, resume: bool, repetitions: int
) -> Examined:
    """Examine one after the other, and write down each finding at once."""
    if not resume:
        file.unlink(missing_ok=True)
    known = read_findings(file)
    examined = []
    for specimen in specimens:
        finding = known.get(specimen.name)
        if finding is None:
            finding = examine(specimen, repetitions)
            add_finding(file, finding)
        describe(specimen, finding)
        examined.append((specimen, finding))
    return examined


def describe(specimen: Specimen, finding: Finding) -> None:
    head = "head" if finding.head else "no head"
    print(
        f"{specimen.name}: {len(finding.layers)} layers, {len(finding.left_out)} left out, {head}, "
        f"{format_ratio(finding.ratio)} times the bare pass, {finding.seconds:.1f} s",
        flush=True,
    )
    for fault in find_faults(finding, specimen):
        print(f"    NOT AS EXPECTED: {fault}", flush=True)


def main() -> None:
    arguments = parse_arguments()
    specimens = choose(list_specimens(), arguments.patterns)
    if arguments.list:
        print("\n".join(specimen.name for specimen in specimens))
        return
    # Transformers, peft and Lightning import it too.
    import_torchvision()
    torch.set_num_threads(1)
    examined = examine_all(
        specimens,
        arguments.output / "findings.jsonl",
        resume=arguments.resume,
        repetitions=arguments.repetitions,
    )
    n_faulty = sum(bool(find_faults(finding, specimen)) for specimen, finding in examined)
    print(f"{len(examined)} networks, {n_faulty} of them not as expected")
    folder = arguments.tables or (None if arguments.patterns else SITE / "zoo")
    if folder is not None:
        write_tables(folder, MEASURED, make_tables(examined))
    if arguments.check and n_faulty:
        sys.exit(1)


if __name__ == "__main__":
    main()
