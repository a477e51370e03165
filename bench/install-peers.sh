#!/bin/sh
# Installs nginx and HAProxy from Debian or Ubuntu, for `holdfast-bench`, without starting or
# enabling their services: the benchmark runs its own, on ports of its own.
set -eu

if [ "$(id -u)" -ne 0 ]; then
    echo "install-peers.sh: run it as root" >&2
    exit 1
fi

missing=
command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || missing="$missing nginx-light"
command -v haproxy >/dev/null || [ -x /usr/sbin/haproxy ] || missing="$missing haproxy"
if [ -z "$missing" ]; then
    echo "nginx and HAProxy are here"
    exit 0
fi

# The packages' scripts ask this file whether they may start a service; 101 is no. One that is here
# already stays as it is, unless it would allow the start.
policy=/usr/sbin/policy-rc.d
made=
if [ ! -e "$policy" ]; then
    trap 'if [ -n "$made" ]; then rm -f "$policy"; fi' EXIT
    trap 'exit 1' HUP INT TERM
    made=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
elif "$policy" nginx start >/dev/null 2>&1; then
    echo "install-peers.sh: $policy allows services to start; install$missing yourself" >&2
    exit 1
fi

apt-get update
# The list of packages is to be split into words.
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing

# Not at the next boot either.
for package in $missing; do
    update-rc.d "${package%-light}" disable
done
