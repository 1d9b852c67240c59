# Sourced by the scripts of this folder: finds or makes the Python environment.
#
#   DM_ENV      folder of the virtual environment      (default: .venv in the clone)
#   DM_PYTHON   an interpreter that has the packages already; no environment is made
#
# dm_python ARGS... runs Python with the project importable from any folder.

DM_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export PYTHONPATH="$DM_ROOT${PYTHONPATH:+:$PYTHONPATH}"
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-3}"
export TF_ENABLE_ONEDNN_OPTS="${TF_ENABLE_ONEDNN_OPTS:-1}"

dm_make_environment() {
    local env="${DM_ENV:-$DM_ROOT/.venv}" wanted
    wanted="$(cat "$DM_ROOT/requirements.txt" "$DM_ROOT/requirements-test.txt" | cksum)"
    if [ -n "${DM_PYTHON:-}" ]; then return; fi
    DM_PYTHON="$env/bin/python"
    export DM_PYTHON
    if [ -f "$env/.dm-installed" ] && [ "$(cat "$env/.dm-installed")" = "$wanted" ]; then
        return
    fi
    echo "Making the Python environment in $env (once; some minutes) ..." >&2
    if [ ! -x "$DM_PYTHON" ]; then
        python3 -m venv "$env" || {
            echo "error: python3 -m venv failed; on Debian: apt install python3-venv" >&2
            exit 1
        }
    fi
    "$DM_PYTHON" -m pip install --quiet --disable-pip-version-check \
        -r "$DM_ROOT/requirements.txt" -r "$DM_ROOT/requirements-test.txt" >&2
    printf '%s' "$wanted" > "$env/.dm-installed"
}

dm_python() {
    dm_make_environment
    "$DM_PYTHON" "$@"
}

# dm_help FILE: prints the comment block at the head of a script.
dm_help() {
    sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$1"
}
