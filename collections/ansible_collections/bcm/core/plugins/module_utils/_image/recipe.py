# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the base image is made of. Every change of a value here gives the base, and all images over it, a new hash."""

from __future__ import annotations

SUITE = "trixie"

PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "libnss-resolve",
    "python3",
    "python3-apt",  # Ansible's apt module, else it brings that into every builder
    "systemd",
    "systemd-resolved",
    "systemd-sysv",
    "udev",  # networkd waits for it before it touches an interface
)

# files that no service reads; the licences are kept
EXCLUDED_PATHS = (
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
)
INCLUDED_PATHS = ("/usr/share/doc/*/copyright",)

ENABLED_UNITS = ("systemd-networkd.service",)

# What ENABLED_UNITS and the scripts of PACKAGES make of it: the links by which systemd starts something. No stack's
# package adds one, because of the presets below.
ENABLING_LINKS = tuple(
    f"/etc/systemd/system/{link}"
    for link in (
        "dbus-org.freedesktop.network1.service",
        "dbus-org.freedesktop.resolve1.service",
        "getty.target.wants/getty@tty1.service",
        "multi-user.target.wants/remote-fs.target",
        "multi-user.target.wants/systemd-networkd.service",
        "network-online.target.wants/systemd-networkd-wait-online.service",
        "sockets.target.wants/systemd-networkd.socket",
        "sysinit.target.wants/systemd-network-generator.service",
        "sysinit.target.wants/systemd-pstore.service",
        "sysinit.target.wants/systemd-resolved.service",
        "timers.target.wants/apt-daily-upgrade.timer",
        "timers.target.wants/apt-daily.timer",
        "timers.target.wants/dpkg-db-backup.timer",
        "timers.target.wants/fstrim.timer",
    )
)

# Units of the base that have no work in a container, or would start some by themselves.
MASKED_UNITS = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "fstrim.timer",
    "getty@tty1.service",
    "systemd-binfmt.service",
    "systemd-logind.service",
    "systemd-modules-load.service",  # fails: a container has no modules of its own
)

# path -> (mode, content)
FILES: dict[str, tuple[int, str]] = {
    # Packages bring services that talk to public networks the moment they run. Neither their scripts may start
    # them (policy-rc.d, status 101: forbidden by policy) nor the next boot (presets, which Debian's scripts obey).
    "usr/sbin/policy-rc.d": (0o755, "#!/bin/sh\nexit 101\n"),
    "etc/systemd/system-preset/00-bcm.preset": (0o644, "disable *\n"),
    "etc/apt/apt.conf.d/00-bcm": (
        0o644,
        # The solver takes what an extra source has for the packages asked for, and for what they cannot do without;
        # the classic one would take nothing, or all that it has.
        'APT::Solver "3.0";\nAPT::Solver::Strict-Pinning "false";\n'
        'APT::Install-Recommends "false";\nAcquire::Languages "none";\nAcquire::Retries "3";\nDpkg::Use-Pty "false";\n',
    ),
    "etc/dpkg/dpkg.cfg.d/00-bcm": (
        0o644,
        "".join(f"path-exclude={path}\n" for path in EXCLUDED_PATHS)
        + "".join(f"path-include={path}\n" for path in INCLUDED_PATHS)
        + "force-unsafe-io\n",
    ),
    # Every packet between two instances is routed by the host, which may answer with redirects to the short way.
    "etc/sysctl.d/60-bcm.conf": (
        0o644,
        "net.ipv4.conf.all.accept_redirects = 0\nnet.ipv4.conf.default.accept_redirects = 0\n"
        "net.ipv6.conf.all.accept_redirects = 0\nnet.ipv6.conf.default.accept_redirects = 0\n",
    ),
    # ClientIdentifier: machine ids are new in each instance, addresses belong to the hardware address.
    "etc/systemd/network/10-eth.network": (
        0o644,
        "[Match]\nName=eth0\n\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n\n"
        "[DHCPv4]\nClientIdentifier=mac\nUseHostname=no\n",
    ),
    # Names come from the network's own server; multicast queries would only tell the neighbours what is resolved.
    "etc/systemd/resolved.conf.d/10-bcm.conf": (0o644, "[Resolve]\nLLMNR=no\nMulticastDNS=no\n"),
    # Logs are in memory: a data center keeps no history of requests.
    "etc/systemd/journald.conf.d/10-bcm.conf": (0o644, "[Journal]\nStorage=volatile\nRuntimeMaxUse=32M\n"),
}

# path -> content; LXD fills them in when an instance is made
TEMPLATES = {
    "/etc/hostname": "{{ container.name }}\n",
    "/etc/hosts": "127.0.0.1\tlocalhost\n127.0.1.1\t{{ container.name }}\n",
}

LINKS = {
    "etc/resolv.conf": "/run/systemd/resolve/stub-resolv.conf",
    **{f"etc/systemd/system/{unit}": "/dev/null" for unit in MASKED_UNITS},
}
