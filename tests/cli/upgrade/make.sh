#!/bin/sh
# Makes a store for the upgrade test: `make.sh KEYWARD OUT.tar.gz`, with the binary of the version whose store it
# is to be. A store that was released is never made again; another version adds another file.
#
# Every secret here is a value of this test alone. `faketime` (Debian: faketime) is needed, since a secret that was
# replaced is kept for 30 days at most: it is replaced in the year 2100.
set -eu
keyward=$(realpath "$1") out=$(realpath -m "$2") here=$(realpath "$(dirname "$0")")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export KEYWARD_DATA="$folder/data" KEYWARD_CONFIG="$folder/keyward.yaml"
export FILED_CLIENT_SECRET=upgrade-filed-client-secret FILED_KEY=upgrade-filed-key-0123456789
export FILED_TOKEN=kwa_upgrade-filed-token-0123456789
export FILED_SIGNING_KEY=whsec_dXBncmFkZS1maWxlZC1zaWduaW5nLWtleS0wMQ==
{ echo 'listen: { proxy: "127.0.0.1:0", admin: "127.0.0.1:0" }'; cat "$here/keyward.yaml"; } >"$KEYWARD_CONFIG"

# Runs a gateway at some time while the rest of the arguments run.
served() {
    at=$1; shift
    FAKETIME_DONT_FAKE_MONOTONIC=1 faketime -f "$at" "$keyward" serve >"$folder/log" 2>&1 &
    gateway=$!
    tries=0
    until "$keyward" health >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 200 ] && kill -0 "$gateway" || { cat "$folder/log"; exit 1; }
    done
    "$@"
    # The wrapper's child is the gateway.
    pkill -TERM -P "$gateway" 2>/dev/null || kill -TERM "$gateway"
    wait "$gateway" || true
}
in_stdin() { printf %s "$1" | { shift; "$keyward" "$@"; } >>"$folder/out"; }
k() { "$keyward" "$@" >>"$folder/out"; }

fill() {
    k org add upgrade-org
    k --org upgrade-org user add zoe --role admin
    k --org upgrade-org agent add other-org-agent
    in_stdin upgrade-other-org-key --org upgrade-org connection add acme --name other-org --no-test --secret-stdin api_key
    k user add ada --role admin --email ada@acme.test
    k user add bob
    k user add eve --role auditor
    k user set eve --pause
    "$keyward" token add ada --label laptop --ttl 36500d --json | sed -n 's/.*"token": *"\([^"]*\)".*/\1/p' >"$folder/personal-token"
    k token add bob --label ci --scope connections:read --scope agents:write

    in_stdin upgrade-api-key-0123456789 connection add acme --name keyed --no-test --secret-stdin api_key \
        --description 'Orders of the shop.' --purpose 'nightly import' --tag crm --tag team:ops \
        --expires 2199-01-31 --rotate-every 36500d --env production --timeout 1500ms --retry 5 --retry-on 429,503 \
        --retry-wait-max 1m --rate-limit 100/min --concurrency 8 --user-agent acme/1.0 --header 'X-Tenant: 42'
    in_stdin upgrade-bearer-0123456789 connection add acme --auth token --name bearing --no-test --secret-stdin token --owner bob
    in_stdin upgrade-password-0123456789 connection add acme --auth login --name logged-in --no-test \
        --field username=ada --secret-stdin password --owner ada --shared
    in_stdin upgrade-pair-0123456789 connection add acme --auth pair --name paired --no-test --field account=a-1 --secret-stdin key
    in_stdin upgrade-paused-0123456789 connection add acme --name paused --no-test --secret-stdin api_key
    k connection pause paused
    in_stdin upgrade-old-key-0123456789 connection add acme --name rotated --no-test --secret-stdin api_key
    in_stdin upgrade-client-secret-0123456789 app add acme --name consents --auth oauth --client-id upgrade-client \
        --secret-stdin client_secret --scope read --keep-alive 0s --authorize-param prompt=consent \
        --url revoke=https://auth.acme.test/revoke
    in_stdin upgrade-refresh-0123456789 connection add acme --auth oauth --name imported --app consents --no-test \
        --secret-stdin refresh_token

    k agent add ci --label team=build --label tier=1 --env production
    in_stdin kwa_upgrade-agent-token-0123456789 agent token add ci --label chosen --token-stdin
    k agent bind ci keyed
    k agent add bobs --owner bob
    in_stdin kwa_upgrade-bobs-token-0123456789 agent token add bobs --token-stdin
    k agent bind bobs bearing
    k agent add rotating
    in_stdin kwa_upgrade-rotating-token-0123456789 agent token add rotating --token-stdin
    k agent bind rotating rotated
    k agent add consenting
    in_stdin kwa_upgrade-consenting-token-0123456789 agent token add consenting --token-stdin
    k agent bind consenting imported
    k agent add held
    k agent pause held
    k plugin install "$here/plugin.yaml" --agent plugged --slot orders=logged-in --skip chat --yes
    in_stdin kwa_upgrade-plugged-token-0123456789 agent token add plugged --token-stdin

    in_stdin whsec_dXBncmFkZS10ZXN0LXNpZ25pbmcta2V5LTAwMQ== webhook add https://hooks.acme.test/in --name ops \
        --event webhook.test --key-stdin
    in_stdin whsec_dXBncmFkZS10ZXN0LXNpZ25pbmcta2V5LTAwMg== webhook add https://hooks.acme.test/paused --name resting --key-stdin
    k webhook set resting --pause
    k honeytoken add readme --provider openai
    k honeytoken add env-file --revoke
}

rotate() {
    in_stdin upgrade-new-key-0123456789 connection rotate rotated --no-test --keep-old 30d --secret-stdin api_key
}

served '+0d' fill
# The CA has expired by then: that run makes one of its own. No CA is kept, since it would expire in ten years.
rm -rf "$KEYWARD_DATA/ca"
served '@2100-01-01 00:00:00' rotate
cd "$KEYWARD_DATA"
rm -rf audit ca store/pid admin.sock
mv "$folder/personal-token" .
find . -type f | sort | sed 's|^\./||' |
    tar --create --format=ustar --owner=0 --group=0 --numeric-owner --mtime=@0 --files-from=- | gzip -9n >"$out"
ls -l "$out"
