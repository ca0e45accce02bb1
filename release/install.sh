#!/bin/sh
# Installs keyward from a folder of release files on a web server.
# `install.sh --help` lists the options. The script downloads the archive for this machine, compares its SHA-256
# with SHA256SUMS, and refuses to install on a mismatch. It changes nothing but DIR/keyward.
set -eu

# release/package writes the URL of the release here.
default_base_url=''

fail() { printf 'error: %s\nhint: %s\n' "$1" "$2" >&2; exit 1; }
wrong_usage() { printf 'error: %s\nhint: install.sh --help\n' "$1" >&2; exit 2; }
has() { command -v "$1" > /dev/null 2>&1; }

# A script that is piped into a shell has no file to print its head from.
usage() {
    cat <<'END'
usage: install.sh [--base-url URL] [--version VERSION] [--dir DIR] [--target TARGET]

  --base-url URL      the folder that has SHA256SUMS; default: $KEYWARD_BASE_URL
  --version VERSION   use the folder vVERSION below that URL; default: $KEYWARD_VERSION, else the URL itself
  --dir DIR           where to put the program; default: $KEYWARD_INSTALL_DIR, else /usr/local/bin as root,
                      else ~/.local/bin
  --target TARGET     the build to install; default: $KEYWARD_TARGET, else the one for this machine

To remove Keyward, delete DIR/keyward; its data is in ~/.local/share/keyward, or /var/lib/keyward for root.
END
}

read_arguments() {
    base_url=${KEYWARD_BASE_URL:-$default_base_url}
    version=${KEYWARD_VERSION:-}
    dir=${KEYWARD_INSTALL_DIR:-}
    target=${KEYWARD_TARGET:-}
    while [ $# != 0 ]; do
        case $1 in
            -h | --help) usage; exit 0 ;;
            --base-url | --version | --dir | --target) [ $# -ge 2 ] || wrong_usage "$1 needs a value" ;;
            *) wrong_usage "unknown argument $1" ;;
        esac
        case $1 in
            --base-url) base_url=$2 ;;
            --version) version=$2 ;;
            --dir) dir=$2 ;;
            --target) target=$2 ;;
        esac
        shift 2
    done
    [ -n "$base_url" ] || wrong_usage "no URL is given: set --base-url or KEYWARD_BASE_URL"
    base_url=${base_url%/}
    case $base_url in
        https://* | http://localhost[:/]* | http://127.0.0.1[:/]* | http://\[::1\][:/]*) ;;
        *) fail "$base_url is not an https URL" "SHA256SUMS protects only if it arrives unchanged: use https" ;;
    esac
    [ -z "$version" ] || base_url=$base_url/v${version#v}
    [ -n "$target" ] || target=$(target_of_machine)
    [ -n "$dir" ] || dir=$(usual_dir)
}

target_of_machine() {
    case $(uname -m) in
        x86_64 | amd64) cpu=x86_64 ;;
        aarch64 | arm64) cpu=aarch64 ;;
        *) fail "there is no build for $(uname -m)" "build it from the sources: cargo install --path . --locked" ;;
    esac
    case $(uname -s) in
        Linux) echo "$cpu-unknown-linux-musl" ;;
        Darwin) echo "$cpu-apple-darwin" ;;
        *) fail "there is no build for $(uname -s)" "Keyward needs Linux or macOS; on Windows, use WSL 2" ;;
    esac
}

usual_dir() {
    if [ "$(id -u)" = 0 ]; then echo /usr/local/bin; else echo "$HOME/.local/bin"; fi
}

# download FILE: from the base URL into the temporary folder.
download() {
    if has curl; then
        # The limits are of one stall, not of the whole download.
        curl --fail --silent --show-error --location --proto-redir '=https' --retry 3 --connect-timeout 20 \
            --speed-limit 1 --speed-time 60 --output "$temporary/$1" "$base_url/$1" ||
            fail "$base_url/$1 cannot be downloaded" "see the message above; is the URL a folder of release files?"
    elif has wget; then
        # Short options: busybox has no others.
        wget -q -T 60 -O "$temporary/$1" "$base_url/$1" ||
            fail "$base_url/$1 cannot be downloaded" "is the URL a folder of release files?"
    else
        fail "neither curl nor wget is installed" "install one of them"
    fi
}

sha256() {
    if has sha256sum; then sum=$(sha256sum < "$1")
    elif has shasum; then sum=$(shasum -a 256 < "$1")
    elif has openssl; then sum=$(openssl dgst -sha256 -r < "$1")
    else fail "no program computes SHA-256" "install coreutils or openssl"
    fi
    echo "${sum%% *}"
}

# Sets `archive` and `expected` from the line of SHA256SUMS for this target.
find_archive() {
    line=$(grep -E "^[0-9a-f]{64}  keyward-[0-9][0-9A-Za-z.+-]*-$target\.tar\.gz\$" "$temporary/SHA256SUMS") ||
        fail "this release has no build for $target" \
            "builds: $(sed -n 's/.*  keyward-[^-]*-\(.*\)\.tar\.gz$/\1/p' "$temporary/SHA256SUMS" | tr '\n' ' ')"
    [ "$(printf '%s\n' "$line" | wc -l)" -eq 1 ] ||
        fail "SHA256SUMS names several archives for $target" "choose one release: --version VERSION"
    expected=${line%% *}
    archive=${line##* }
}

verify() {
    actual=$(sha256 "$temporary/$archive")
    [ "$actual" = "$expected" ] || fail "the SHA-256 of $archive is $actual, and SHA256SUMS has $expected" \
        "the archive is damaged or was changed: nothing is installed; try again later"
}

install_program() {
    name=${archive%.tar.gz}
    tar -xzf "$temporary/$archive" -C "$temporary" "$name/keyward" ||
        fail "$archive cannot be unpacked" "is tar with gzip installed?"
    shown=$("$temporary/$name/keyward" --version) ||
        fail "the program for $target does not run on this machine" "choose another build: --target TARGET"
    mkdir -p "$dir" || fail "$dir cannot be created" "choose a folder with --dir"
    # Renamed, so that a running keyward keeps its file and no half-written file is ever run.
    if ! { cp "$temporary/$name/keyward" "$dir/.keyward.new" && chmod 755 "$dir/.keyward.new" &&
        mv -f "$dir/.keyward.new" "$dir/keyward"; }; then
        rm -f "$dir/.keyward.new"
        fail "$dir cannot be written to" "choose a folder with --dir, or run as root"
    fi
    echo "installed $shown as $dir/keyward"
}

print_next_steps() {
    case :$PATH: in
        *:"$dir":*)
            found=$(command -v keyward || true)
            [ "$found" = "$dir/keyward" ] || echo "note: your shell runs $found instead: it is earlier in PATH" ;;
        *) echo "note: $dir is not in PATH; add to your shell's profile: export PATH=\"$dir:\$PATH\"" ;;
    esac
    echo "next: keyward connect"
}

main() {
    read_arguments "$@"
    temporary=$(mktemp -d)
    trap 'rm -rf "$temporary"' EXIT
    trap 'exit 1' HUP INT TERM
    download SHA256SUMS
    find_archive
    download "$archive"
    verify
    install_program
    print_next_steps
}

# The last line: a script that arrives in part does nothing.
main "$@"
