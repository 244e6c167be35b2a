#!/bin/sh
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Prints the swap that is in use and neither on an encrypted device nor compressed in memory, one a line.
swapon --show=NAME --noheadings --raw | while read -r name; do
    case "$name" in /dev/zram*) continue ;; esac
    device=$name
    if [ -f "$name" ]; then
        device=$(findmnt --noheadings --output SOURCE --target "$name")
    fi
    if ! lsblk --noheadings --inverse --output TYPE "$device" 2>/dev/null | grep -q crypt; then
        echo "$name"
    fi
done
