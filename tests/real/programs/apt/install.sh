# apt with folders of its own: nothing of the machine is touched.
here=$PWD
mkdir -p etc/apt.conf.d etc/preferences.d state/lists/partial cache/archives/partial
mkdir -p root/var/lib/dpkg/info root/var/lib/dpkg/updates
: > root/var/lib/dpkg/status
echo "deb [trusted=yes] https://apt.acme.test/debian ./" > etc/sources.list
get() {
    apt-get -o Dir::Etc="$here/etc" -o Dir::State="$here/state" -o Dir::Cache="$here/cache" \
        -o Dir::State::status="$here/root/var/lib/dpkg/status" -o Dir::Log="$here" \
        -o DPkg::Options::=--root="$here/root" -o DPkg::Options::=--force-not-root \
        -o DPkg::Options::=--log="$here/dpkg.log" "$@"
}
get update
get install --quiet --yes fine
echo "answer: $(cat root/usr/share/fine/word)"
