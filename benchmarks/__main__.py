# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the benchmarks one after another; writes the table (Markdown) and the figures (JSON)."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from ansible.release import __version__ as ansible_version

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from bcm_cli.setup import ROOT, step

from . import (
    artifacts,
    certificates,
    deploy,
    growth,
    hold,
    items,
    machine,
    make,
    measure,
    noop,
    onions,
    parsers,
    peers,
    portal,
    roundtrip,
    shop,
    verify,
)
from .measure import Bench, BenchError, Line

BENCHMARKS = {
    "deploy": deploy,
    "noop": noop,
    "hold": hold,
    "make": make,
    "items": items,
    "roundtrip": roundtrip,
    "growth": growth,
    "parsers": parsers,
    "artifacts": artifacts,
    "verify": verify,
    "certificates": certificates,
    "onions": onions,
    "portal": portal,
    "shop": shop,
}


def main() -> int:
    args = _arguments()
    found: dict[str, list[Line]] = {}
    facts: dict[str, str] = {}
    try:
        with (
            machine.daemon(args.lxd_dir) as socket,
            tempfile.TemporaryDirectory(prefix="bcm-bench-") as folder,
            Client(str(socket)) as client,
            measure.network(client),
        ):
            facts = _facts(client)
            bench = Bench(client, Path(folder), peers.folder(), args.repetitions, args.warm)
            for name in args.benchmarks or BENCHMARKS:
                step(f"Benchmark {name}: {(BENCHMARKS[name].__doc__ or '').splitlines()[0]}")
                begun = time.monotonic()
                found[name] = BENCHMARKS[name].lines(bench)
                step(f"Benchmark {name}: {time.monotonic() - begun:.0f} s")
    finally:
        # What was measured before a failure is not lost with it.
        met = _write(args.output, facts, found) if found else False
    return 0 if met else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/run", description="Measure, and compare with what is there.")
    parser.add_argument("benchmarks", nargs="*", metavar="NAME", help=f"some only: {', '.join(BENCHMARKS)}")
    parser.add_argument("--repetitions", type=int, default=5, metavar="N", help="of each measurement (default: 5)")
    parser.add_argument("--warm", action="store_true", help="take images from your cache; no first run from nothing")
    parser.add_argument("--lxd-dir", type=Path, metavar="DIR", help="use the LXD that runs there, not one of our own")
    output = ROOT / ".cache/benchmarks"
    parser.add_argument("--output", type=Path, default=output, metavar="DIR", help="where results.md and .json go")
    args = parser.parse_args()
    for name in args.benchmarks:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark {name}: {', '.join(BENCHMARKS)}")
    return args


def _facts(client: Client) -> dict[str, str]:
    """What the machine is, as far as it bears on the figures."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    environment = client.server["environment"]
    pool = client.get("/1.0/storage-pools/default")
    return {
        "processor": f"{cpu}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "kernel": platform.release(),
        "LXD": f"{environment['server_version']}, storage {pool['driver']}",
        "Ansible": f"ansible-core {ansible_version}, Python {platform.python_version()}",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def _write(folder: Path, facts: dict[str, str], found: dict[str, list[Line]]) -> bool:
    """The table and the figures; whether every limit is kept."""
    lines = [line for lines in found.values() for line in lines]
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"machine": facts, "benchmarks": {k: [dataclasses.asdict(x) for x in v] for k, v in found.items()}}
    (folder / "results.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    table = "\n".join(_table(facts, lines)) + "\n"
    (folder / "results.md").write_text(table, encoding="utf-8")
    print(table, end="")
    return all(line.met for line in lines)


def _table(facts: dict[str, str], lines: list[Line]) -> list[str]:
    rows = [f"{'; '.join(f'{name}: {value}' for name, value in facts.items())}.", ""]
    rows += ["| work | time | compared with | its time | ratio | at most |", "|---|---|---|---|---|---|"]
    for line in lines:
        limit = "" if line.at_most is None else f"{line.at_most:g}" + (" s" if line.theirs is None else "")
        ratio = "" if line.ratio is None else f"{line.ratio:.3f}" if line.ratio < 0.1 else f"{line.ratio:.2f}"
        theirs = "" if line.theirs is None else _seconds(line.theirs)
        if not line.met:
            limit = f"**{limit}, missed**"
        rows.append(f"| {line.work} | {_seconds(line.ours)} | {line.against} | {theirs} | {ratio} | {limit} |")
    return rows


def _seconds(value: float) -> str:
    return f"{value * 1000:.1f} ms" if value < 0.1 else f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


try:
    sys.exit(main())
except (BenchError, BcmError) as error:
    sys.exit(f"benchmarks: {error}")
