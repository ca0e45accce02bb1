# Functions of the scripts in this folder: sourced by bash, not run.
# shellcheck shell=bash disable=SC2034

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target_dir=$(cd "$root" && realpath -m "${CARGO_TARGET_DIR:-target}")

# fail MESSAGE HINT
fail() { printf 'error: %s\nhint: %s\n' "$1" "$2" >&2; exit 1; }
wrong_usage() { printf 'error: %s\nhint: %s --help\n' "$1" "$0" >&2; exit 2; }
has() { command -v "$1" > /dev/null 2>&1; }

# Prints the comment at the head of a script, which is its help text.
help_of() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p;}' "$1"; }

# The version of the workspace.
version_of_source() {
    sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml"
}

# The time that all files of a package get: of the commit, unless the caller sets it.
set_source_date_epoch() {
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2> /dev/null)} || true
    [ -n "$SOURCE_DATE_EPOCH" ] ||
        fail "the sources are no git checkout" "set SOURCE_DATE_EPOCH to the release's time, in seconds since 1970"
    export SOURCE_DATE_EPOCH TZ=UTC LC_ALL=C
}

is_static() { ! readelf -lW "$1" | grep -qE '^ *INTERP' && ! readelf -dW "$1" | grep -q '(NEEDED)'; }

# Whether this machine can run a program of the target.
runs_here() {
    case $1 in
        "$(uname -m)"-unknown-linux-*) true ;;
        *) false ;;
    esac
}
