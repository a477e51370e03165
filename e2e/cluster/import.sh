#!/usr/bin/env bash
# Imports archives of images into the node, where pods find them with imagePullPolicy IfNotPresent.
#
#   import.sh ARCHIVE...
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/settings.sh"

for archive in "$@"; do
    # The node may not see the archive's folder.
    in_node ctr --namespace k8s.io images import - <"$archive" >/dev/null
done
