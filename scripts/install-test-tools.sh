#!/bin/sh
# Installs the programs with which some tests make small real filesystems (in loop images), to fill and freeze them.
#
# It helps where it can and never fails: without root or apt-get it only says what is absent, and the tests that need
# it skip, visibly. Nothing is installed when nothing is missing.

set -u

# Each line: the program, and the package that holds it.
needed="mkfs.ext4 e2fsprogs
mkfs.btrfs btrfs-progs
mkfs.xfs xfsprogs"

# The sbin folders hold these programs, and are often not on the PATH of an ordinary account.
PATH="$PATH:/usr/sbin:/sbin"

missing() { # prints column $1 (1: programs, 2: packages) of all that is absent
    echo "$needed" | while read -r program package; do
        command -v "$program" >/dev/null 2>&1 || { [ "$1" = 1 ] && echo "$program" || echo "$package"; }
    done | tr '\n' ' '
}

if [ -z "$(missing 1)" ]; then
    echo "system tools: all present"
    exit 0
fi

if [ "$(id -u)" -ne 0 ]; then
    echo "system tools: not root, so nothing is installed"
elif ! command -v apt-get >/dev/null 2>&1; then
    echo "system tools: no apt-get here, so nothing is installed"
else
    echo "system tools: installing $(missing 2)"
    export DEBIAN_FRONTEND=noninteractive
    # One package at a time: an archive that lacks one of them must not cost the others.
    apt-get update -qq || echo "system tools: the package lists could not be refreshed"
    for package in $(missing 2); do
        apt-get install -y -qq --no-install-recommends "$package" >/dev/null || echo "system tools: $package failed"
    done
fi

if [ -n "$(missing 1)" ]; then
    echo "system tools: ABSENT: $(missing 1)-- the tests that need them will be skipped"
fi
exit 0
