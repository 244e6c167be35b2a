# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of the LXD layer. Each message is written for a person: the thing, what was wrong with it, what to do."""

from __future__ import annotations

from .._base.errors import BcmError


class LxdError(BcmError):
    """Anything that went wrong between us and a LXD or Incus server."""

    code = "server_error"


class Unreachable(LxdError):
    """No answer at the endpoint."""

    code = "unreachable"


class Forbidden(LxdError):
    """The server, or the permissions of its socket, refuse us."""

    code = "forbidden"


class NotFound(LxdError):
    """The object does not exist (HTTP 404)."""

    code = "not_found"


class Conflict(LxdError):
    """The object exists already or is busy (HTTP 409)."""

    code = "conflict"


class PreconditionFailed(LxdError):
    """The object was changed after it was read (HTTP 412)."""

    code = "changed_meanwhile"


class Unsupported(LxdError):
    """The server lacks the API extension that is needed."""

    code = "unsupported"


class DeadlineExceeded(LxdError):
    """A deadline has passed; the message says for what, and how far it was."""

    code = "timeout"


class NotRun(LxdError):
    """A command was not begun, since something that it needs is missing in the instance."""

    code = "not_run"


class TooMuchOutput(LxdError):
    """An instance wrote, or holds, more than is read of it."""

    code = "too_much_output"
