#!/usr/bin/env bash
# Starts one of the programs of node/ as a process of the node. Its process number (within the node)
# goes to run/PROGRAM.pid, its output to log/PROGRAM.log of the state folder.
#
#   start.sh PROGRAM [FLAG...]      flags are added to those of node/PROGRAM.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/settings.sh"
program=$1
shift

# shellcheck disable=SC2016
in_node setsid --fork sh -c '
    program=$1 path=$2 script=$3
    shift 3
    echo $$ >"/run/$program.pid"
    export PATH="$path"
    exec "$script" "$@" </dev/null >>"/var/log/$program.log" 2>&1
' start "$program" "$(cat "$state/bin")":/usr/sbin:/usr/bin:/sbin:/bin "$here/node/$program.sh" "$@"
