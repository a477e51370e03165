#!/usr/bin/env bash
# Autobahn's cases for WebSocket servers (RFC 6455), each run against the built-in echo pod through
# the proxy, in every mode of tests/conformance/manifests.yaml. Reports stay in target/conformance.
#
#   conformance.sh          the 299 cases without compression
#   conformance.sh --full   all 517, against a pod that compresses: each result must be that of a run
#                           without the proxy; takes long
#   conformance.sh tls h2   in these modes only
#
# The 299 are without 9.1.6 and 9.2.6: their client writes 16 MiB before it reads, and the built-in pod
# echoes while it reads, so that both wait for each other as soon as the sockets' buffers are smaller.
set -euo pipefail
cd "$(dirname "$0")/.."
runner=kosoku==0.1.0
out=$PWD/target/conformance
compressing=aiohttp==3.14.5
full=0
cases=(-x 9.1.6 -x 9.2.6 -x '12.*' -x '13.*')
if [ "${1:-}" = --full ]; then
    shift
    full=1
    cases=()
fi
modes=("$@")

venv=$out/${runner//=/-}
if [ ! -x "$venv/bin/kosoku" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$runner"
fi
# With the features that the tests have built it with.
cargo build --quiet --workspace --bin holdfast --example conformance-bridge

manifests=$(mktemp -d)
processes=()
end() {
    for process in "${processes[@]}"; do
        kill "$process" 2>/dev/null || true
    done
    rm -rf "$manifests"
}
trap end EXIT

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
# Runs the cases against an address, with reports of the name.
cases_against() {
    timeout --kill-after=5 40m "$venv/bin/kosoku" "ws://$1/echo" -o "$out/$2" -p 2 "${cases[@]}"
}
# Whether each case of a mode went as without the proxy.
as_direct() {
    python3 - "$out/direct/index.json" "$out/$1/index.json" <<'END'
import collections, json, sys
def results(path):
    [agent] = json.load(open(path)).values()
    keys = "behavior", "behaviorClose", "remoteCloseCode"
    return {case: [result[key] for key in keys] for case, result in agent.items()}
direct, proxied = map(results, sys.argv[1:])
other = [case for case in direct if proxied.get(case) != direct[case]]
for case in other:
    print(f"  {case}: {proxied.get(case)}, directly {direct[case]}")
counts = collections.Counter(behavior for behavior, *_ in proxied.values())
print(f"{len(direct) - len(other)} of {len(direct)} cases as without the proxy: {dict(counts)}")
sys.exit(bool(other) or len(direct) != len(proxied))
END
}

pod=$(free_port)
if [ "$full" = 1 ]; then
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$compressing"
    "$venv/bin/python" tests/conformance/compressing_pod.py "$pod" &
    processes+=($!)
    for _ in {1..100}; do
        ! (: <"/dev/tcp/127.0.0.1/$pod") 2>/dev/null || break
        sleep 0.1
    done
    echo "==> direct"
    rm -rf "$out/direct"
    cases_against "127.0.0.1:$pod" direct >/dev/null || true
else
    target/debug/holdfast pod echo --address "127.0.0.1:$pod" --access-log off --log warn &
    processes+=($!)
fi
sed "s/PORT/$pod/" tests/conformance/manifests.yaml >"$manifests/all.yaml"
target/debug/holdfast run --manifests "$manifests" --any-port --bind-address 127.0.0.1 --admin 127.0.0.1:0 \
    --shutdown-delay 0s --access-log off --log warn >"$manifests/addresses" &
processes+=($!)

# The last line that it prints is that of the admin port.
for _ in {1..300}; do
    ! grep -q '^admin ' "$manifests/addresses" || break
    sleep 0.1
done
grep -q '^admin ' "$manifests/addresses" || {
    echo "conformance: the proxy does not start" >&2
    exit 1
}
failed=0
while read -r _ listener address; do
    mode=${listener##*/}
    [ "${#modes[@]}" -eq 0 ] || [[ " ${modes[*]} " == *" $mode "* ]] || continue
    echo "==> $mode"
    case $mode in
    tls | h2)
        target/debug/examples/conformance-bridge "$mode" "$address" >"$manifests/$mode" &
        processes+=($!)
        for _ in {1..100}; do
            [ ! -s "$manifests/$mode" ] || break
            sleep 0.1
        done
        address=$(cat "$manifests/$mode")
        ;;
    esac
    if [ "$full" = 1 ]; then
        rm -rf "${out:?}/$mode"
        cases_against "$address" "$mode" >/dev/null || true
        as_direct "$mode" || failed=1
    else
        cases_against "$address" "$mode" | tail -n 20 || failed=1
    fi
done < <(grep '^listener ' "$manifests/addresses")
exit "$failed"
