#!/usr/bin/env bash
# Runs the fuzz targets one after the other, each from its seeds in fuzz/corpus and from what earlier
# runs have found worth keeping (fuzz/target/corpus). What fails is kept in fuzz/target/artifacts;
# `fuzz.sh --again TARGET FILE` runs it once more.
#
#   fuzz.sh              all targets
#   fuzz.sh relay …      these
#
#   FUZZ_RUNS     inputs for each target, at most (1000000)
#   FUZZ_SECONDS  time for each target, at most (60)
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
# No sanitizer: all of it is safe Rust, which would gain nothing and be half as fast. Overflows of
# numbers are looked for in any case.
fuzz() {
    cargo +nightly fuzz "$1" --fuzz-dir . --sanitizer none "${@:2}"
}

if [ "${1:-}" = --again ]; then
    fuzz run "$2" "$3"
    exit
fi
targets=("$@")
[ "${#targets[@]}" -gt 0 ] || mapfile -t targets < <(cargo +nightly fuzz list --fuzz-dir .)
fuzz build
for target in "${targets[@]}"; do
    printf '\n==> %s\n' "$target"
    mkdir -p "target/corpus/$target" "target/artifacts/$target"
    fuzz run "$target" "target/corpus/$target" "corpus/$target" -- \
        -runs="${FUZZ_RUNS:-1000000}" -max_total_time="${FUZZ_SECONDS:-60}" -max_len=512 -timeout=20 \
        -artifact_prefix="target/artifacts/$target/" -print_final_stats=1
done
