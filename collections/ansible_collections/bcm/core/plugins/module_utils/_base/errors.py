# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base class of all errors that a person or a program may have to act on."""

from __future__ import annotations

import copy
import typing as t

#: The codes of errors and what each says. Programs rely on them: a code keeps its meaning, and none is removed.
CODES: t.Final = {
    "below_floor": "The version has known faults: it is below the floor of its release.",
    "busy": "Another run or another program is using it.",
    "cancelled": "A person cancelled it, or did not answer.",
    "changed_meanwhile": "It was changed or deleted while the run was at work on it.",
    "clock_wrong": "The clock of the machine is wrong.",
    "command_failed": "A program ended with an error.",
    "confirmation_needed": "It needs the consent of a person, which was not given.",
    "conflict": "It exists already, is in use, or has a name that something else needs.",
    "damaged": "A file or an answer is not what was written.",
    "data_at_risk": "Going on could lose data, keys or addresses, so nothing was done.",
    "device_failed": "The hardware wallet cannot do it.",
    "device_missing": "No hardware wallet is connected, or not the only one.",
    "download_failed": "A download failed.",
    "expired": "A certificate or a list is too old to be used.",
    "failed": "An error of another kind.",
    "forbidden": "The server, or the permissions of a file, refuse it.",
    "internal_error": "A fault of bcm itself.",
    "interrupted": "The run was interrupted, for example by Ctrl-C.",
    "invalid_definition": "A stack.yml, or a file beside it, is wrong.",
    "invalid_value": "An option, a variable or a setting has a value that it cannot have.",
    "io_error": "A file cannot be read or written.",
    "missing_program": "A program or a library is not installed.",
    "no_space": "There is not enough room on a disk or in a storage pool.",
    "not_allowed": "What was asked for is outside of what may be done.",
    "not_found": "It does not exist.",
    "not_ready": "Something else has to be done or started first.",
    "not_run": "A command was not begun, since something that it needs is missing in the instance.",
    "not_verified": "A signature, a digest or a date does not prove that it is what was pinned.",
    "server_error": "The LXD or Incus server answered with an error.",
    "service_failed": "A service does not do its work.",
    "timeout": "It did not happen in time.",
    "too_much_output": "There is more output than is read.",
    "unknown_name": "No such name is known; the message has the nearest one.",
    "unreachable": "A server or an endpoint does not answer.",
    "unsupported": "The server, the device or the file is of a version or a kind that is not supported.",
    "usage": "The command line is wrong.",
    "wrong_key": "A key, a passphrase, a vault or an identity is another one than the one that is needed.",
}  # fmt: skip

_MARKS = ".?:;,"


class BcmError(Exception):
    """A fault with its thing and its remedy, and a code that programs can rely on; carries no secret.

    The sentence, ``str()``, joins the three parts. A colon goes before the remedy, unless the fault ends with a mark
    of its own. The attributes are without that mark. ``about`` is the thing where the sentence begins with other words.
    """

    code: str = "failed"

    def __init__(
        self, thing: object, fault: object = "", remedy: str = "", *, code: str | None = None, about: object = None
    ) -> None:
        fault = str(fault)
        text = f"{thing} {fault}" if fault else str(thing)
        mark = "" if text.endswith(tuple(_MARKS)) else ":"
        super().__init__(f"{text}{mark} {remedy}" if remedy else text)
        self.thing = str(thing).rstrip(_MARKS) if about is None else str(about)
        self.fault = fault.rstrip(_MARKS)
        self.remedy = remedy
        if code is not None:
            self.code = code

    @classmethod
    def of(cls, error: BcmError) -> t.Self:
        """The same error, with the same code, as one of this class."""
        return cls.received(error.sent)

    @classmethod
    def received(cls, sent: t.Mapping[str, str]) -> t.Self:
        """An error of another process, from what its ``sent`` was."""
        parts = dict(sent)
        sentence = parts.pop("sentence")
        error = cls(**parts)
        error.args = (sentence,)
        return error

    def within(self, place: str) -> t.Self:
        """The same error, said of a place: the variable, the option or the file that it was found in."""
        same = copy.copy(self)
        same.args = (f"{place}: {self}",)
        same.thing = place
        same.fault = " ".join(filter(None, (self.thing, self.fault)))
        return same

    def with_remedy(self, remedy: str) -> t.Self:
        """The same error, with more to do, or to know, about it."""
        same = copy.copy(self)
        same.args = (f"{self}; {remedy}",)
        same.remedy = f"{self.remedy}; {remedy}" if self.remedy else remedy
        return same

    @property
    def sent(self) -> dict[str, str]:
        """What another process needs to raise it again, as JSON can carry it."""
        return {"sentence": str(self), **self.parts}

    @property
    def parts(self) -> dict[str, str]:
        """What programs get to read."""
        return {"code": self.code, "thing": self.thing, "fault": self.fault, "remedy": self.remedy}
