# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reconcile resources with what is there: read, plan (pure), apply side by side in the order of their references."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import groupby
from typing import Any

from .._base import change_count
from .client import Client
from .handler_base import Body, Step, api_fields
from .handlers import handler_of
from .lxd_errors import Conflict, LxdError
from .resources import KINDS, Reference, Resource

# A host's LXD works on several instances at once; more than this only queues in it.
WORKERS = 8


@dataclass
class Work:
    """One resource, what was found of it, and what is to be done."""

    resource: Resource
    body: Body | None
    steps: list[Step]
    #: steps that changed something, of which the last may have failed half-way
    done: list[Step] = field(default_factory=list)
    error: LxdError | None = None

    @property
    def foreign(self) -> bool:
        return self.body is not None and self.resource.is_foreign(self.body)


@dataclass
class Outcome:
    """What a reconciliation did, or in check mode would do."""

    work: list[Work]
    check: bool

    @property
    def steps(self) -> list[tuple[Resource, Step]]:
        return [
            (item.resource, step)
            for item in self.work
            for step in (item.steps if self.check else item.done)
            if step.changes
        ]

    @property
    def changes(self) -> list[dict[str, str]]:
        return [{"kind": r.kind.name, "name": r.full_name, "action": step.action} for r, step in self.steps]

    @property
    def diff(self) -> list[dict[str, Any]]:
        return [
            {
                "before_header": f"{resource.label} ({step.action})",
                "after_header": f"{resource.label} ({step.action})",
                "before": dict(step.before),
                "after": dict(step.after),
            }
            for resource, step in self.steps
        ]

    @property
    def resources(self) -> dict[str, Body | None]:
        return {
            f"{item.resource.kind.name}/{item.resource.full_name}": api_fields(item.body) for item in self.work
        }

    @property
    def left(self) -> list[str]:
        """Resources that were to be deleted, and are kept since they are foreign."""
        return [item.resource.label for item in self.work if item.foreign]


class ApplyError(LxdError):
    """Some resources could not be changed: the sentence has each error, the parts are those of the first.

    ``outcome`` says what was done.
    """

    def __init__(self, errors: Sequence[LxdError], outcome: Outcome) -> None:
        first = next((error for error in errors if error.code != "not_ready"), errors[0])
        super().__init__(first.thing, first.fault, first.remedy, code=first.code)
        self.args = ("; ".join(map(str, errors)),)
        self.outcome = outcome


def reconcile(
    client: Client,
    resources: Sequence[Resource],
    *,
    check: bool = False,
    progress: Callable[[Resource, Step], None] | None = None,
) -> Outcome:
    """Bring resources to their desired state; in check mode only plan it.

    What does not depend on a failed resource is still done; then ApplyError names every failure.
    """
    _refuse_duplicates(resources)
    for resource in resources:
        if resource.kind.extension:
            client.require(resource.kind.extension, resource.label)
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="bcm") as pool:
        if not check:
            for project in {resource.project for resource in resources}:
                client.settle([item.path for item in resources if item.project == project], project)
        bodies = _read(client, resources, pool)
        work = [Work(r, bodies[r.project, r.reference], []) for r in resources]
        check_owners(work)
        for item in work:
            if not item.foreign:
                item.steps = handler_of(item.resource).steps(item.resource, item.body)
        before = order(work)
        outcome = Outcome(work, check)
        if not check and any(item.steps for item in work):
            _apply(client, work, before, pool, progress)
    failed = [item.error for item in work if item.error is not None]
    if failed:
        raise ApplyError(failed, outcome)
    return outcome


def observe(client: Client, resources: Sequence[Resource]) -> list[Work]:
    """Read resources."""
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="bcm") as pool:
        bodies = _read(client, resources, pool)
    return [Work(resource, bodies[resource.project, resource.reference], []) for resource in resources]


def check_owners(work: Iterable[Work]) -> None:
    """Raise LxdError if resources are foreign; it names all of them and the commands that adopt them."""
    refused = [item for item in work if item.foreign and item.resource.state != "absent"]
    if refused:
        names = ", ".join(item.resource.label for item in refused)
        commands = "; ".join(f"`{item.resource.adoption}`" for item in refused)
        marks = ", ".join(f"{key}={value}" for key, value in refused[0].resource.owner.items())
        raise LxdError(
            f"{names}:",
            f"there already, without the marks {marks}, and left alone",
            f"rename or remove what is not yours, or say that it is: {commands}",
            code="conflict",
        )


def _refuse_duplicates(resources: Iterable[Resource]) -> None:
    seen: set[tuple[str, Reference]] = set()
    for resource in resources:
        key = (resource.project, resource.reference)
        if key in seen:
            raise LxdError(resource.label, "is listed twice", code="invalid_value")
        seen.add(key)


def _read(
    client: Client, resources: Sequence[Resource], pool: ThreadPoolExecutor
) -> dict[tuple[str, Reference], Body | None]:
    """Read all resources, with one request for those of one collection."""

    def where(resource: Resource) -> tuple[str, str]:
        return resource.collection, resource.project

    groups = [list(group) for _key, group in groupby(sorted(resources, key=where), key=where)]
    answers = pool.map(lambda group: handler_of(group[0]).read_all(client, group), groups)
    return {
        (resource.project, resource.reference): bodies.get(resource.name)
        for group, bodies in zip(groups, answers, strict=True)
        for resource in group
    }


def order(work: Sequence[Work]) -> dict[int, set[int]]:
    """Return for each item, by index, the indexes of those to be done before. Pure; LxdError if they are circular.

    A resource comes after those that it refers to; a deletion waits for all that refer, or referred, to it.
    """
    place: dict[Reference, list[int]] = {}
    for index, item in enumerate(work):
        place.setdefault(item.resource.reference, []).append(index)
    before: dict[int, set[int]] = {index: set() for index in range(len(work))}
    for index, item in enumerate(work):
        resource = item.resource
        wanted = set() if resource.state == "absent" else resource.references(resource.given)
        present = resource.references(item.body) if item.body is not None else set()
        if resource.state == "absent":
            inspected_kinds = resource.kind.inspected_kinds
            before[index].update(
                i
                for i, other in enumerate(work)
                if other.resource.kind.name in inspected_kinds
                and (other.resource.state != "absent" or _turn(i, other) < _turn(index, item))
            )
        for reference in wanted | present:
            for other in place.get(reference, ()):
                if work[other].resource.state == "absent":
                    before[other].add(index)
                elif reference in wanted:
                    before[index].add(other)
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        names = ", ".join(work[index].resource.label for index in error.args[1][1:])
        raise LxdError("These resources", f"wait for each other: {names}", code="invalid_value") from error
    return before


def _turn(index: int, item: Work) -> tuple[int, int]:
    """Return a key that orders deletions that inspect each other; kinds are listed before those that refer to them."""
    return -list(KINDS).index(item.resource.kind.name), index


def _apply(
    client: Client,
    work: Sequence[Work],
    before: dict[int, set[int]],
    pool: ThreadPoolExecutor,
    progress: Callable[[Resource, Step], None] | None,
) -> None:
    graph = TopologicalSorter(before)
    graph.prepare()
    running: dict[Future[None], int] = {}
    while graph.is_active():
        for index in graph.get_ready():
            item = work[index]
            failed = next((work[other] for other in before[index] if work[other].error is not None), None)
            if failed is not None and item.steps:
                fault = f"was left unchanged, since {failed.resource.label} failed"
                item.error = LxdError(item.resource.label, fault, code="not_ready")
            if item.error is None and item.steps:
                running[pool.submit(_perform, client, item, progress)] = index
            else:
                graph.done(index)
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            index = running.pop(future)
            graph.done(index)
            try:
                future.result()
            except LxdError as error:
                work[index].error = error


def _find_concurrently_created(client: Client, resource: Resource, step: Step, error: LxdError) -> Body | None:
    """Return a resource that was created after it was read as missing. Raises LxdError if it is foreign."""
    if step.action != "create" or not (isinstance(error, Conflict) or "already exists" in str(error)):
        return None
    body = handler_of(resource).read(client, resource)[0]
    check_owners([Work(resource, body, [])])
    return body


def _perform(client: Client, item: Work, progress: Callable[[Resource, Step], None] | None) -> None:
    handler = handler_of(item.resource)
    try:
        steps = [*item.steps]
        while steps:
            step = steps.pop(0)
            if progress is not None:
                progress(item.resource, step)
            before = change_count.made_here()
            try:
                handler.perform(client, item.resource, step)
            except LxdError as error:
                body = _find_concurrently_created(client, item.resource, step, error)
                if body is not None:
                    steps = handler.steps(item.resource, body)
                    continue
                if change_count.made_here() > before:
                    item.done.append(step)
                raise
            item.done.append(step)
    finally:
        with contextlib.suppress(LxdError):
            item.body = handler.read(client, item.resource)[0]
