# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress of a run for people; a JSON report for programs."""

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: stdout
short_description: Show progress to people, and a report to programs
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - Shows one line for each phase and for each step that changed something, with the time since the start, and the
    running steps while they last.
  - Shows an error as one message, and the report of the playbook at the end.
  - Steps that changed nothing are shown only with a higher verbosity.
requirements:
  - set as C(stdout_callback) in the configuration
options:
  json:
    description:
      - Write only the report, as JSON, to the standard output. Everything else goes to the standard error.
      - After a failure, the JSON object has C(failed) and a list of C(errors) instead.
    type: bool
    default: false
    env:
      - name: BCM_JSON
    ini:
      - section: callback_progress
        key: json
  outcome:
    description:
      - A file in which the changed steps, the errors and the report are written at the end, as JSON.
      - It has no message and no difference, in which there may be secrets.
    type: path
    env:
      - name: BCM_OUTCOME
  result_format:
    description: The format of results with a higher verbosity.
    type: str
    choices: [json, yaml]
    default: yaml
    env:
      - name: ANSIBLE_CALLBACK_RESULT_FORMAT
    ini:
      - section: defaults
        key: callback_result_format
  pretty_results:
    description: Whether results are written on several lines.
    type: bool
    env:
      - name: ANSIBLE_CALLBACK_FORMAT_PRETTY
    ini:
      - section: defaults
        key: callback_format_pretty
seealso:
  - plugin: ansible.builtin.default
    plugin_type: callback
    description: Shows every task of every host.
"""

EXAMPLES = r"""
ansible.cfg: |
  [defaults]
  stdout_callback = bcm.core.progress
"""

import difflib
import os
import re
import threading
import time
import typing as t
from pathlib import Path

import yaml
from ansible import constants as C
from ansible.plugins.callback import CallbackBase
from ansible.utils.color import stringc

from ansible_collections.bcm.core.plugins.module_utils._base.text import duration, harmless, json_text, report, shown
from ansible_collections.bcm.core.plugins.plugin_utils._action import plain

if t.TYPE_CHECKING:
    from ansible.executor.stats import AggregateStats
    from ansible.executor.task_result import CallbackTaskResult
    from ansible.inventory.host import Host
    from ansible.playbook.play import Play
    from ansible.playbook.task import Task

# On a terminal, the line of running steps is updated every second; elsewhere a long step is mentioned this often.
_TICK_SECONDS = 1.0
_REMIND_SECONDS = 30.0
# Ansible's own prefixes of a message, which add nothing.
_NOISE = re.compile(r"^(Task failed: |Module failed: |Action failed: )+")


# Of a step of a role: install, configure, verify.
_PHASE = re.compile(r"/tasks/(\w+)\.yml")


class _Under(t.NamedTuple):
    """A running step."""

    host: str
    name: str
    since: float
    far: str = ""

    @property
    def what(self) -> str:
        return f"{self.name}, {self.far}" if self.far else self.name


def _failures(result: CallbackTaskResult) -> list[t.Mapping[str, t.Any]]:
    """The results that failed: those of the items of a loop, or the one of the task."""
    return [item for item in result.result.get("results", ()) if item.get("failed")] or [result.result]


def _name(task: Task) -> str:
    """The name of a step without that of its role."""
    return str(task.name or task.get_name())


def _difference(difference: t.Mapping[str, t.Any]) -> list[str]:
    """Format a diff of an Ansible module: its subject, and below it the removed and added lines."""
    if "prepared" in difference:
        return str(difference["prepared"]).splitlines()
    before, after = (_lines(difference.get(side)) for side in ("before", "after"))
    compared = list(difflib.unified_diff(before, after, n=2, lineterm=""))[3:]
    about = difference.get("after_header") or difference.get("before_header")
    return [*([str(about)] if about else []), *("  …" if line.startswith("@@") else line for line in compared)]


def _lines(side: t.Any) -> list[str]:
    text = yaml.safe_dump(side, allow_unicode=True) if isinstance(side, (dict, list)) else str(side or "")
    return text.splitlines() if side else []


class CallbackModule(CallbackBase):
    """One instance lives in Ansible's main process; results reach it from a thread, steps begin in another."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "bcm.core.progress"

    def __init__(self) -> None:
        super().__init__()
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._running: dict[tuple[str, str], _Under] = {}
        self._phase = ""
        self._hosts = 0
        self._done: dict[str, set[str]] = {}
        self._report: dict[str, t.Any] = {}
        self._errors: list[dict[str, t.Any]] = []
        self._changes: list[dict[str, str]] = []
        self._check = False
        self._out = 1
        self._live = False
        self._reminded = self._begun
        self._stopped = threading.Event()
        self._main = os.getpid()
        self._plain_display = self._display.display

    # -- writing ------------------------------------------------------------------------------------------------------

    def _write(self, text: str) -> None:
        # Past Python's buffers: a worker forked at this moment must not inherit half a line, or a lock.
        data = text.encode()
        while data:
            data = data[os.write(self._out, data) :]

    def _line(self, text: str = "", stamped: bool = True, colour: str | None = None) -> None:
        text = stringc(shown(text), colour) if colour else shown(text)
        stamp = f"{duration(time.monotonic() - self._begun):>7}  " if stamped else ""
        with self._lock:
            self._write(("\r\033[K" if self._live else "") + stamp + text + "\n")
            self._reminded = time.monotonic()

    def _tick(self) -> None:
        while not self._stopped.wait(_TICK_SECONDS):
            now = time.monotonic()
            with self._lock:
                under = sorted(self._running.values(), key=lambda step: step.since)
                if not under:
                    continue
                text = f"{duration(now - self._begun):>7}  " + harmless(
                    f"{self._phase}: "
                    + "; ".join(f"{step.host}{step.what} ({duration(now - step.since)})" for step in under)
                )
                if self._live:
                    width = os.get_terminal_size(self._out).columns or 80
                    self._write("\r\033[K" + (text if len(text) < width else text[: width - 2] + "…"))
                elif now - self._reminded >= _REMIND_SECONDS:
                    self._write(text + "\n")
                    self._reminded = now

    def _say(self, msg: str, *args: t.Any, **kwargs: t.Any) -> None:
        """Show a message of an action or of Ansible itself, around the line of running steps."""
        if os.getpid() != self._main or kwargs.get("log_only"):
            self._plain_display(msg, *args, **kwargs)
        elif kwargs.get("screen_only"):
            # the progress of a step: the line of running steps shows it from now on
            host, _colon, far = str(msg).partition(": ")
            with self._lock:
                for key, under in self._running.items():
                    if key[0] == host:
                        self._running[key] = under._replace(far=far)
        elif kwargs.get("stderr"):
            with self._lock:
                self._write("\r\033[K" if self._live else "")
            self._plain_display(shown(str(msg)), *args, **kwargs)
        else:
            self._line(f"  {msg}")

    # -- what Ansible says --------------------------------------------------------------------------------------------

    def v2_playbook_on_start(self, playbook: t.Any) -> None:
        self._out = 2 if self.get_option("json") else 1
        self._live = os.isatty(self._out)
        # Workers send what they display to the main process, and there is no event for it.
        self._display.display = self._say
        threading.Thread(target=self._tick, daemon=True).start()

    def v2_playbook_on_play_start(self, play: Play) -> None:
        self._phase = str(play.get_name())
        self._check = bool(play.check_mode)
        self._hosts = len(play.get_variable_manager()._inventory.get_hosts(play.hosts))
        self._done = {}
        if self._hosts:
            self._line(self._phase)

    def v2_runner_on_start(self, host: Host, task: Task) -> None:
        name = host.get_name()
        label = "" if name == "localhost" else f"{name}: "
        with self._lock:
            self._running[name, task._uuid] = _Under(label, _name(task), time.monotonic())

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        label = self._over(result)
        self._note_change(result)
        if isinstance(facts := result.result.get("bcm_report"), t.Mapping):
            self._report = plain(facts)
        phase = _PHASE.search(result.task.get_path() or "")
        key = phase[1] if phase else _name(result.task)
        done = self._done.setdefault(key, set())
        done.add(result.host.get_name())
        # Verification changes nothing, but is what the user waits for.
        if result.result.get("changed") or key == "verify" or self._display.verbosity:
            far = f" ({len(done)} of {self._hosts})" if self._hosts > 1 else ""
            counts = self._counts(result)
            self._line(f"  {label}{_name(result.task)}{f': {counts}' if counts else ''}{far}")
        if self._display.verbosity > 1:
            self._line(self._dump_results(result.result), stamped=False)

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        label = self._over(result)
        # Ansible's own count omits what a step changed before it failed.
        self._note_change(result)
        if ignore_errors:
            return
        message = self._message(result)
        step = _name(result.task)
        error = {"code": "failed", "thing": step, "fault": message, "remedy": ""}
        for failure in _failures(result):
            if isinstance(failure.get("error"), t.Mapping):
                error = plain(failure["error"])
                break
        self._errors.append({"instance": result.host.get_name(), "step": step, "message": message, "error": error})
        counts = self._counts(result)
        self._line(f"Failed: {label}{step}: {message}{f' (changed: {counts})' if counts else ''}")
        if self._display.verbosity > 1:
            self._handle_exception(result.result, use_stderr=True)

    v2_runner_on_unreachable = v2_runner_on_failed

    def v2_runner_on_skipped(self, result: CallbackTaskResult) -> None:
        self._over(result)

    def v2_on_file_diff(self, result: CallbackTaskResult) -> None:
        for item in result.result.get("results", [result.result]):
            if item.get("diff") and item.get("changed", True):
                found = plain(item["diff"])
                for difference in found if isinstance(found, list) else [found]:
                    for line in _difference(difference):
                        colour = {"+": C.COLOR_DIFF_ADD, "-": C.COLOR_DIFF_REMOVE}.get(line[:1])
                        self._line(" " * 11 + line, stamped=False, colour=colour)

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        self._stopped.set()
        changed = len(self._changes)
        word = "would change" if self._check else "changed"
        outcome = f"{changed} step{'s' * (changed != 1)} {word}" if changed else f"nothing {word}"
        if self._report and not self._errors:
            self._line(stamped=False)
            for line in report(self._report):
                self._line(line, stamped=False)
            self._line(stamped=False)
        where = ", ".join(sorted({error["instance"] for error in self._errors} - {"localhost"}))
        failed = f"Failed in {where}" if where else "Failed"
        self._line(f"{failed if self._errors else 'Done'}: {outcome}")
        if self.get_option("json"):
            answer = {"failed": True, "errors": self._errors} if self._errors else self._report
            os.write(1, json_text(answer).encode() + b"\n")
        if path := self.get_option("outcome"):
            errors = [f"{item['instance']}: {item['step']}: {item['error']['code']}" for item in self._errors]
            outcome = {"changes": self._changes, "errors": errors, "report": self._report}
            Path(path).write_text(json_text(outcome), encoding="utf-8")

    # -- words --------------------------------------------------------------------------------------------------------

    def _over(self, result: CallbackTaskResult) -> str:
        """Remove a step from the running ones, and return the label of its host."""
        name = result.host.get_name()
        with self._lock:
            under = self._running.pop((name, result.task._uuid), None)
        self._handle_warnings(result.result)
        return under.host if under else f"{name}: "

    def _note_change(self, result: CallbackTaskResult) -> None:
        if result.result.get("changed"):
            step, what = _name(result.task), self._counts(result)
            self._changes.append({"instance": result.host.get_name(), "step": step, "what": what})

    def _counts(self, result: CallbackTaskResult) -> str:
        """Return what a step did, if its result says so: "create 4 instances, update 1 network"."""
        counts: dict[tuple[str, str], int] = {}
        for change in result.result.get("changes") or ():
            key = (str(change.get("action")), str(change.get("kind")).replace("_", " "))
            counts[key] = counts.get(key, 0) + 1
        return ", ".join(f"{action} {count} {kind}{'s' * (count > 1)}" for (action, kind), count in counts.items())

    def _message(self, result: CallbackTaskResult) -> str:
        """Return the message of a failure, with the output of the program if one failed."""
        messages = []
        for failure in _failures(result):
            words = _NOISE.sub("", str(failure.get("msg") or failure.get("censored") or "it failed without a word"))
            output = str(failure.get("stderr") or failure.get("module_stderr") or failure.get("stdout") or "").strip()
            if isinstance(failure.get("item"), str):
                words = f"{failure['item']}: {words}"
            if "rc" in failure and output:
                words += "\n" + "\n".join(output.splitlines()[-15:])
            messages.append(words)
        return "\n".join(messages)
