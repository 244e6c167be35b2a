# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What instances, servers and upstream wrote neither moves the cursor nor passes for a line of ours."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import yaml

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.text import cell, harmless, json_text, report, shown, table
from bcm_cli import ansible_run, main, output, setup
from tests.cli.conftest import Terminal
from tests.support import ROOT

#: clears the screen, begins a line, imitates ours at a time that no test has, turns the direction of writing, rings,
#: hides what follows
HOSTILE = "\x1b[2J\x1b[1;1Hgone\r\n  99:59  Done: nothing\u202egnihton\u2066\x07\x08\x7f\x9b31m\u2028a\u200b\ufeff"


def is_harmless(text: str, *, colours: bool = False) -> bool:
    """Whether a terminal does nothing with it but print lines; none begins as ours do."""
    if colours:
        text = re.sub(r"\x1b\[[\d;]*m", "", text)
    odd = [char for char in text if char != "\n" and not char.isprintable()]
    return not odd and not re.search(r"^  99:59  Done", text, re.MULTILINE)


def test_every_unprintable_character_is_escaped() -> None:
    assert all(harmless(chr(number)).isprintable() for number in range(0x110000))
    for char in map(chr, range(0x110000)):
        # controls, formats, surrogates, and separators of lines and paragraphs
        assert unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} or harmless(char) != char
    assert harmless("Zürich 東京 – ₿ 🟢") == "Zürich 東京 – ₿ 🟢"
    assert harmless("a\tb") == "a   b"


def test_lines_after_the_first_are_indented() -> None:
    assert shown("one\r\ntwo\n  three\n\n") == "one\n    two\n      three"
    assert is_harmless(shown(HOSTILE))


def test_tables_and_reports_are_escaped() -> None:
    rows = [{"name": HOSTILE, HOSTILE: {HOSTILE: [HOSTILE]}}]
    for lines in (table(rows), report({HOSTILE: HOSTILE, "rows": rows, "more": {HOSTILE: {"a": HOSTILE}}})):
        assert all(is_harmless(line) and "\n" not in line for line in lines)
    assert is_harmless(cell([HOSTILE, {HOSTILE: HOSTILE}]))
    assert is_harmless(json_text({HOSTILE: HOSTILE}))
    assert json.loads(json_text({HOSTILE: HOSTILE})) == {HOSTILE: HOSTILE}


def test_answers_errors_and_steps_are_escaped(capfd: pytest.CaptureFixture[str]) -> None:
    output.answer({HOSTILE: HOSTILE}, False)
    output.answer([{HOSTILE: HOSTILE}], False)
    output.answer({HOSTILE: HOSTILE}, True)
    output.say(HOSTILE)
    setup.step(HOSTILE)

    def fails(error: Exception) -> int:
        raise error

    for error in (BcmError(HOSTILE), main.UsageError(HOSTILE), ValueError(HOSTILE)):
        assert main.report_errors(lambda error=error: fails(error))  # type: ignore[misc]
    words = f"{HOSTILE}\n".encode().replace(b"  99:59", b"99:59")
    ansible_run._pass_on(io.BytesIO(words + b"\x1b[0;35mwarning\x1b[0m\n"))
    said, told = capfd.readouterr()
    assert is_harmless(said)
    assert "\x1b[0;35mwarning\x1b[0m\n" in told
    assert is_harmless(told.replace("\x1b[0;35m", "").replace("\x1b[0m", ""))


def test_output_of_an_instance_is_escaped(capfd: pytest.CaptureFixture[str]) -> None:
    data = HOSTILE.encode() + b"\xff\xc3"
    with output.sink(sys.stdout, as_text=True) as sink:
        sink.write(data)
    assert is_harmless(capfd.readouterr().out.replace("  99:59", "99:59"))
    lines = output.Lines("\r\n")
    pieces = b"".join(lines(bytes([byte])) for byte in data + b"\r\nnext\r\n")
    assert pieces.endswith(b"\r\nnext\r\n")
    assert is_harmless(pieces.decode().replace("\r\n", "\n").replace("  99:59", "99:59"))


PLAY = {
    "name": HOSTILE,
    "hosts": "localhost",
    "gather_facts": False,
    "vars": {"bcm_report": {"note": HOSTILE, "instances": {HOSTILE: {HOSTILE: HOSTILE}}}},
    "tasks": [
        {"name": HOSTILE, "ansible.builtin.command": {"argv": ["printf", "%s", HOSTILE]}},
        {"name": "Write", "ansible.builtin.copy": {"dest": "{{ to }}", "content": HOSTILE}},
        {"name": "Say", "ansible.builtin.debug": {"var": "bcm_report"}},
        {
            "name": "Break",
            "ansible.builtin.command": {"argv": ["sh", "-c", 'printf "%s" "$0" >&2; exit 1', HOSTILE]},
            "when": "fault == 'command'",
        },
        {"name": "Fail", "ansible.builtin.fail": {"msg": HOSTILE}, "when": "fault == 'message'"},
        {
            "name": "Ask",
            "bcm.core.lxd_info": {"kind": "instance", "endpoint": f"/run/{HOSTILE}"},
            "when": "fault == 'module'",
        },
    ],
}


@pytest.mark.parametrize(
    ("how", "fault"),
    [
        ("plain", ""),
        ("plain", "message"),
        ("verbose", "command"),
        ("json", "module"),
        ("json", ""),
        ("terminal", "command"),
        ("default", "module"),
    ],
)
def test_output_of_a_run_is_escaped(tmp_path: Path, how: str, fault: str) -> None:
    (tmp_path / "play.yml").write_text(yaml.safe_dump([PLAY]))
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default" if how == "default" else "bcm.core.progress",
        "BCM_JSON": str(int(how == "json")),
        "LC_ALL": "C.UTF-8",
        "TERM": "xterm",
        "NO_COLOR": "1",
    }
    given = json.dumps({"fault": fault, "to": str(tmp_path / "to"), "ansible_python_interpreter": sys.executable})
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local"]
    command += ["-e", given, "--diff", *["-vvv"] * (how == "verbose"), str(tmp_path / "play.yml")]
    if how == "terminal":
        terminal = Terminal(command, tmp_path, environment)
        assert terminal.ends() == (2 if fault else 0)
        said = terminal.output.replace("\r\033[K", "").replace("\r\n", "\n")
    else:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == (2 if fault else 0), done.stdout + done.stderr
        said = done.stdout + done.stderr
    if how == "default":
        # What Ansible shows of its own modules and of files is Ansible's affair; ours is what our modules say.
        said = said[said.index("TASK [Ask]") :]
    if how == "json":
        json.loads(done.stdout)
    assert "gone" in said
    assert is_harmless(said)
