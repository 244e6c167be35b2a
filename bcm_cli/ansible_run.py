# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a playbook of this repository, and pass on signals and its exit status."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO

from ansible_collections.bcm.core.plugins.module_utils._base.text import harmless

from . import setup

#: the colours of Ansible's own words
_COLOUR = re.compile(r"(\x1b\[(?:[01];3[0-7]|0)m)")
_AWAITED = {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD}


def run_playbook(playbook: str, inventory: str, options: Sequence[str], more: Mapping[str, str]) -> int:
    """Return the exit status of a playbook; ``more`` is added to its environment.

    If SIGINT or SIGTERM ended it, that is 128 and the number of the signal.
    """
    environment = {
        **os.environ,
        **more,
        "ANSIBLE_STDOUT_CALLBACK": "bcm.core.progress",
        "PATH": f"{setup.VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    former = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    try:
        return _run([playbook, "-i", inventory, *options], environment)
    finally:
        # what follows may ask a person, whose Ctrl-C counts
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _run(words: Sequence[str], environment: Mapping[str, str]) -> int:
    child = subprocess.Popen(
        [str(setup.VENV / "bin" / "ansible-playbook"), *words],
        cwd=setup.ROOT, env=environment, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED),
    )  # fmt: skip
    assert child.stderr is not None
    reader = threading.Thread(target=_pass_on, args=(child.stderr,))
    reader.start()
    interrupted = 0
    while child.poll() is None:
        received = signal.sigwaitinfo(_AWAITED)
        if received.si_signo != signal.SIGCHLD:
            interrupted = received.si_signo
            # The terminal sends Ctrl-C to the whole group; pass on what a process sent to us alone (si_code <= 0).
            if received.si_code <= 0:
                child.send_signal(signal.SIGINT)
    reader.join()
    if interrupted:
        clear = "\r\033[K" if sys.stderr.isatty() else ""
        print(f"{clear}bcm: interrupted; the same command continues from there", file=sys.stderr)
        return 128 + interrupted
    return child.returncode


def _pass_on(stream: IO[bytes]) -> None:
    """Pass on Ansible's standard error, except its message on Ctrl-C, which ours replaces."""
    for line in stream:
        if b"User interrupted execution" not in line:
            # Ansible's own messages have gone through progress; only its colours are not harmless text
            parts = _COLOUR.split(line.decode("utf-8", "backslashreplace").rstrip("\n"))
            sys.stderr.write("".join(text if index % 2 else harmless(text) for index, text in enumerate(parts)) + "\n")
            sys.stderr.flush()
