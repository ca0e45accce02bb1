#!/bin/sh
# Creates the files of the container image: image-root.sh BINARY FOLDER
#
#   FOLDER/root   the image's root: the binary, the shared objects that it needs, CA certificates, and
#                 the few files of /etc that glibc and Keyward read
#   FOLDER/data   the content of a new volume at /data: an empty data directory of user 65532
#   FOLDER/certs  a folder of that user, for certificates that a volume gives to clients
#
# The Dockerfile runs it in its build stage. Without a container engine, run it by hand as root, and enter
# the result: chroot --userspec=65532:65532 FOLDER/root /keyward --version
set -eu
umask 022

[ $# = 2 ] || { echo "usage: image-root.sh BINARY FOLDER" >&2; exit 2; }
binary=$1
root=$2/root
data=$2/data
certs=$2/certs
user=65532

mkdir -p "$root/etc/ssl/certs" "$data/keyward" "$certs"
cp "$binary" "$root/keyward"
chmod 755 "$root/keyward"

# The loader and the libraries, at the paths that `ldd` prints, which depend on the architecture.
# Names are resolved by libc itself: glibc 2.34 and later have no separate files for DNS.
# A static binary (release/build) needs none, and `ldd` cannot read those of another architecture.
objects=
if readelf -lW "$binary" | grep -q 'Requesting program interpreter'; then objects=$(ldd "$binary"); fi
case $objects in
    *"not found"*) echo "error: $objects" >&2; exit 1 ;;
esac
for object in $(echo "$objects" | tr ' \t' '\n\n' | grep '^/'); do
    mkdir -p "$root$(dirname "$object")"
    cp -L "$object" "$root$object"
done

cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
echo "hosts: files dns" > "$root/etc/nsswitch.conf"
echo "keyward:x:$user:$user:keyward:/data:/keyward" > "$root/etc/passwd"
echo "keyward:x:$user:" > "$root/etc/group"

chmod 700 "$data/keyward"
# Who is not root looks at the files only.
[ "$(id -u)" != 0 ] || chown -R "$user:$user" "$data" "$certs"
