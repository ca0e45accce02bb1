# The Debian package, for release/package: sourced by bash, not run. `$shared`, `$work`, `$out`, `$version`,
# `$maintainer` and `$homepage` are its variables.
# shellcheck shell=bash disable=SC2154

# Without certificates of the platform the gateway does not start. A program that is not static needs libc6 of the
# newest symbol that it uses.
depends_of() {
    local newest depends=ca-certificates
    if ! is_static "$1"; then
        newest=$(readelf -VW "$1" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
        depends+=", libc6 (>= ${newest#GLIBC_})"
        if readelf -dW "$1" | grep -q libgcc_s; then depends+=", libgcc-s1"; fi
    fi
    echo "$depends"
}

# The kibibytes of each file, rounded up, as policy 5.6.20 describes them; `du` depends on the file system.
installed_size() {
    find "$1" -type f -printf '%s\n' | awk '{ total += int(($1 + 1023) / 1024) } END { print total }'
}

put_files() {
    local package=$1 target=$2 binary=$3 page
    local doc=$package/usr/share/doc/keyward
    install -Dm 755 "$binary" "$package/usr/bin/keyward"
    for page in "$shared"/man/man1/*.1; do
        install -Dm 644 "$page" "$package/usr/share/man/man1/${page##*/}"
    done
    install -Dm 644 "$shared/completions/keyward.bash" "$package/usr/share/bash-completion/completions/keyward"
    install -Dm 644 "$shared/completions/_keyward" "$package/usr/share/zsh/vendor-completions/_keyward"
    install -Dm 644 "$shared/completions/keyward.fish" "$package/usr/share/fish/vendor_completions.d/keyward.fish"
    install -Dm 644 "$root/release/deb/keyward.yaml" "$package/etc/keyward/keyward.yaml"
    install -d "$package/lib/systemd/system" "$doc/examples"
    sed 's|/usr/local/bin/keyward|/usr/bin/keyward|g' "$root/deploy/keyward.service" \
        > "$package/lib/systemd/system/keyward.service"
    # The documents with their folders: the unit names one of them.
    (cd "$root/docs" && find . -name '*.md' -exec install -Dm 644 {} "$doc/{}" \;)
    install -m 644 "$shared/README.md" "$doc/README.md"
    install -m 644 "$shared/config.example.yaml" "$doc/examples/config.example.yaml"
    install -m 644 "$shared/CHANGELOG.md" "$doc/changelog"
    install -m 644 "$work/third-party-$target" "$doc/THIRD-PARTY-LICENCES.txt"
    put_copyright > "$doc/copyright"
    put_changelog > "$doc/changelog.Debian"
    find "$package/usr/share/man" -name '*.1' -exec gzip -9n {} +
    gzip -9n "$doc"/{changelog,changelog.Debian,THIRD-PARTY-LICENCES.txt}
    # Only the overrides that this program needs: lintian reports the others.
    local overrides=$package/usr/share/lintian/overrides/keyward
    install -Dm 644 "$root/release/deb/lintian-overrides" "$overrides"
    is_static "$binary" || sed -i '/statically-linked/d; /shared-library/d; /^# One static/d' "$overrides"
}

put_copyright() {
    local holders text
    holders=$(sed -n 's/^Copyright (c) //p' "$root/LICENSE-MIT")
    # The terms, without title and holder; an empty line is written as a dot.
    text=$(sed '1,/^Copyright/d' "$root/LICENSE-MIT" | sed '1{/^$/d}; s/^$/./; s/^/ /')
    local template
    template=$(cat "$root/release/deb/copyright.in")
    template=${template//@COPYRIGHT@/"$holders"}
    printf '%s\n' "${template//@MIT@/"$text"}"
}

put_changelog() {
    printf 'keyward (%s-1) stable; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n' \
        "$version" "$maintainer" "$(date -uR -d "@$SOURCE_DATE_EPOCH")"
}

put_control() {
    local package=$1 target=$2 binary=$3 template depends line
    depends=$(depends_of "$binary")
    template=$(cat "$root/release/deb/control.in")
    template=${template//@VERSION@/"$version-1"}
    template=${template//@ARCHITECTURE@/"$(architecture "$target")"}
    template=${template//@MAINTAINER@/"$maintainer"}
    template=${template//@INSTALLED_SIZE@/"$(installed_size "$package")"}
    template=${template//@DEPENDS@/"$depends"}
    line=${homepage:+Homepage: $homepage$'\n'}
    printf '%s\n' "${template//@HOMEPAGE@/"$line"}"
}

# make_deb TARGET BINARY
make_deb() {
    local target=$1 binary=$2 package=$work/deb control=$work/control
    mkdir -p "$package" "$control"
    put_files "$package" "$target" "$binary"
    put_control "$package" "$target" "$binary" > "$control/control"
    echo /etc/keyward/keyward.yaml > "$control/conffiles"
    install -m 755 "$root"/release/deb/{postinst,prerm,postrm} "$control/"
    (cd "$package" && find usr lib -type f -print0 | sort -z | xargs -0 md5sum > "$control/md5sums")
    mv "$control" "$package/DEBIAN"
    find "$package" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group -Zxz --build "$package" \
        "$out/keyward_$version-1_$(architecture "$target").deb" > "$work/dpkg-deb.log" ||
        fail "dpkg-deb failed: $(cat "$work/dpkg-deb.log")" "see the message above"
    rm -r "$package"
}
