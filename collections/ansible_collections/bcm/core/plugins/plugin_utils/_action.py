# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base class of the action plugins: argument specification, client, errors, check and diff mode."""

from __future__ import annotations

import traceback
import typing as t
from abc import abstractmethod
from pathlib import Path

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..module_utils._base import change_count
from ..module_utils._base.errors import BcmError
from ..module_utils._base.text import harmless, shown

if t.TYPE_CHECKING:
    from ..module_utils._lxd.client import Client

_display = Display()
#: -vvv, as for the tracebacks of Ansible's own modules
_TRACEBACK_VERBOSITY = 3
#: keys of a result that Ansible acts upon: "results" are the items of a loop, which `no_log` leaves as they are, "rc"
#: fails the task, "ansible_facts" become variables
RESERVED = frozenset(
    {
        "add_group",
        "add_host",
        "ansible_facts",
        "ansible_index_var",
        "ansible_job_id",
        "ansible_loop",
        "ansible_loop_var",
        "ansible_stats",
        "async_result",
        "attempts",
        "censored",
        "deprecations",
        "exception",
        "failed_when_result",
        "finished",
        "include",
        "include_args",
        "invocation",
        "item",
        "module_stderr",
        "module_stdout",
        "rc",
        "results",
        "retries",
        "skip_reason",
        "skipped",
        "started",
        "stderr",
        "stderr_lines",
        "stdout",
        "stdout_lines",
        "unreachable",
    }
)


def plain(value: t.Any) -> t.Any:
    """Copy a value of Ansible (tagged or lazily templated) to plain Python types, which is what YAML and pylxd take."""
    if isinstance(value, t.Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    kinds: tuple[t.Callable[[t.Any], t.Any], ...] = (str, int, float, bytes)
    return next((kind(value) for kind in kinds if isinstance(value, t.cast(type, kind))), value)


def failure(error: BcmError, *, changed: bool) -> dict[str, t.Any]:
    """Return the result of a task that failed with an error; with -vvv, including the traceback."""
    result: dict[str, t.Any] = {"failed": True, "changed": changed, "msg": shown(str(error)), "error": error.parts}
    if _display.verbosity >= _TRACEBACK_VERBOSITY:
        result["exception"] = _traceback(error)
        for line in result["exception"].splitlines():  # Ansible itself shows it only if DISPLAY_TRACEBACK says so
            _display.vvv(line)
    return result


def secrets_directory(task_vars: t.Mapping[str, t.Any]) -> Path:
    """Return the directory of the data center's secrets, beside the first file of the inventory. Raises BcmError."""
    for source in plain(task_vars.get("ansible_inventory_sources") or []):
        path = Path(source)
        if path.exists():
            return (path if path.is_dir() else path.parent) / "secrets"
    raise BcmError(
        "The secrets",
        "have no place, since no inventory file is in use",
        "set the option directory",
        code="invalid_value",
    )


def _traceback(error: BaseException) -> str:
    """Where an error and its causes were raised, without their messages: those of a library may have secrets."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    before = f"{_traceback(cause)}\n" if cause else ""
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"{before}Traceback (most recent call last):\n{frames}{type(error).__name__}"


class BcmAction(ActionBase):
    """An action that runs on the controller: set `ARGUMENT_SPEC`, write `perform`, raise a `BcmError` on failure."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = True

    ARGUMENT_SPEC: t.ClassVar[dict[str, t.Any]] = {}
    #: mutually_exclusive, required_together, required_one_of, required_if, required_by
    CONSTRAINTS: t.ClassVar[dict[str, t.Any]] = {}
    #: True merges the options of the fragment bcm.core.lxd and gives the action a `client`
    LXD: t.ClassVar[bool] = False
    #: those of them that do not apply here
    LXD_WITHOUT: t.ClassVar[tuple[str, ...]] = ()

    _params: dict[str, t.Any]
    _client: Client | None = None

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        """The whole specification, as the module's documentation with its fragments must have it."""
        if not cls.LXD:
            return dict(cls.ARGUMENT_SPEC)
        from ._lxd_options import LXD_ARGUMENT_SPEC

        shared = {name: option for name, option in LXD_ARGUMENT_SPEC.items() if name not in cls.LXD_WITHOUT}
        return {**shared, **cls.ARGUMENT_SPEC}

    @property
    def check_mode(self) -> bool:
        return bool(self._task.check_mode)

    @property
    def diff_mode(self) -> bool:
        return bool(self._task.diff)

    @property
    def client(self) -> Client:
        """The client of the endpoint in the task's options, connected at first use and closed after the task."""
        if self._client is None:
            from ._lxd_options import client_from

            self._client = client_from(self._params)
        return self._client

    @abstractmethod
    def perform(self, params: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Do the work and return the result; `params` are validated and of plain Python types."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        _spec, params = self.validate_argument_spec(argument_spec=self.argument_spec(), **self.CONSTRAINTS)
        self._params = plain(params)
        before = change_count.made()
        try:
            found = self.perform(self._params, task_vars or {})
        except BcmError as error:
            return failure(error, changed=change_count.made() > before)
        finally:
            if self._client is not None:
                self._client.close()
                self._client = None
        if reserved := RESERVED & found.keys():
            names = ", ".join(sorted(reserved))
            raise AssertionError(f"{self._task.action} returns what Ansible gives a meaning to: {names}")
        # Messages contain output of instances and servers, and Ansible shows them unescaped.
        if isinstance(found.get("msg"), str):
            found["msg"] = shown(found["msg"])
        if "warnings" in found:
            found["warnings"] = [harmless(str(warning)) for warning in found["warnings"]]
        result.update(found)
        if not self.diff_mode:
            result.pop("diff", None)
        result.setdefault("changed", False)
        return result
