#!/bin/sh
# sh deploy/environment.sh LOCK: afterwards .venv has what LOCK (a .lock file of the project's folder) names.
# Does nothing, and does it fast, when that is so already. PYTHON=... chooses the interpreter (3.11 or newer).
# Each package has to be one of the wheels whose hashes the lock has; nothing is built, and nothing else is taken.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
lock=$1
venv=$root/.venv

say() { printf '%s\n' "$*" >&2; }
refuse() { say "$*"; exit 1; }
is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

choose_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_new_enough "$PYTHON" || refuse "$PYTHON is not Python 3.11 or newer: set PYTHON to one that is."
        echo "$PYTHON"
    elif is_new_enough python3.11; then
        echo python3.11
    elif is_new_enough python3; then
        echo python3
    else
        refuse "Python 3.11 or newer is needed and neither python3.11 nor python3 is it: install it, or name it with PYTHON=..."
    fi
}

# The file names its interpreter: another PYTHON, or one that was upgraded away, means a new environment.
is_usable() {
    is_new_enough "$venv/bin/python" || return 1
    [ -z "${PYTHON:-}" ] || [ "$(cat "$venv/made-by" 2>/dev/null)" = "$PYTHON" ]
}

make_venv() {
    python=$(choose_python)
    say "Making the environment in .venv with $python; this takes a minute, once."
    rm -rf "$venv"
    if ! "$python" -m venv "$venv" >/dev/null 2>&1; then
        # Debian ships venv without ensurepip; its own pip can fill an environment that has none.
        rm -rf "$venv"
        { "$python" -m venv --without-pip "$venv" && "$python" -m pip --python "$venv/bin/python" install -q pip; } \
            >/dev/null 2>&1 || {
            rm -rf "$venv"
            refuse "$python can make no virtual environment: install its venv package (Debian: apt install python3-venv) and try again."
        }
    fi
    echo "$python" >"$venv/made-by"
}

# What a lock asks for, as its text: its own, and that of the locks that it includes.
pins() {
    case $1 in
        requirements.lock) ;;
        requirements-demo.lock) pins requirements.lock ;;
        *) pins requirements-demo.lock ;;
    esac
    cat "$root/$1"
}

# One at a time: this file is the lock, so that nothing is left behind. Where flock is missing, do not start two.
exec 9<"$0"
! command -v flock >/dev/null || flock 9

is_usable || make_venv
stamp=$venv/installed-$lock
if [ "$(pins "$lock")" != "$(cat "$stamp" 2>/dev/null)" ]; then
    say "Installing $lock into .venv."
    "$venv/bin/python" -m pip install -q --disable-pip-version-check --require-hashes --only-binary :all: -r "$root/$lock" ||
        refuse "Installing $lock failed: see pip's message above, and check the network."
    pins "$lock" >"$stamp"
    cp "$root/requirements.lock" "$venv/installed-requirements.lock"  # part of whichever was asked for
fi
