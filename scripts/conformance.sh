#!/usr/bin/env bash
# Autobahn's cases for WebSocket servers (RFC 6455), each run against the built-in echo pod through
# the proxy, in every mode of tests/conformance/manifests.yaml. Reports stay in target/conformance.
#
#   conformance.sh          the 299 cases without compression
#   conformance.sh --full   with compression as well: 515, which takes long
#   conformance.sh tls h2   in these modes only
#
# Left out are 9.1.6 and 9.2.6: their client writes 16 MiB before it reads, and the pod echoes while it
# reads, so that both wait for each other as soon as the sockets' buffers are smaller.
set -euo pipefail
cd "$(dirname "$0")/.."
runner=kosoku==0.1.0
out=$PWD/target/conformance
cases=(-x 9.1.6 -x 9.2.6)
if [ "${1:-}" = --full ]; then
    shift
else
    cases+=(-x '12.*' -x '13.*')
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
pod=$(free_port)
target/debug/holdfast pod echo --address "127.0.0.1:$pod" --access-log off --log warn &
processes+=($!)
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
    timeout --kill-after=5 20m "$venv/bin/kosoku" "ws://$address/echo" -o "$out/$mode" -p 2 \
        "${cases[@]}" | tail -n 20 || failed=1
done < <(grep '^listener ' "$manifests/addresses")
exit "$failed"
