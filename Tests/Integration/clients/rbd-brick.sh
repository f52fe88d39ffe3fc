#!/usr/bin/env bash
# rbd-brick.sh URL: brick.py over rbd. librbd's module comes from Debian, everything else from the virtual environment.
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
modules=$(mktemp -d /tmp/clinker-modules-XXXXXX)
trap 'rm -rf "$modules"' EXIT
ln -s /usr/lib/python3/dist-packages/ra*.cpython-* /usr/lib/python3/dist-packages/rbd*.cpython-* "$modules"
PYTHONPATH=$modules OSLO_LOCK_PATH=$modules python3 "$here/brick.py" "$1" rbd
