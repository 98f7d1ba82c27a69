#!/bin/sh
# Feeds every hand-written parser what libFuzzer finds: sh fuzz/run.sh [SECONDS PER TARGET] [TARGET ...]
#   Needs cargo-fuzz (cargo install cargo-fuzz) and a nightly compiler, or the stable one, which is then told to behave like one.
#   Ends with 1 at the first input that panics, hangs for three seconds or takes 512 MB; it lies below fuzz/artifacts.
set -eu
cd "$(dirname "$0")"
seconds=${1:-60}
[ $# -eq 0 ] || shift
targets=${*:-rle brush pickle sentencepiece vocabulary merges safetensors}
cargo fuzz --version >/dev/null 2>&1 || { echo "cargo-fuzz is missing: cargo install cargo-fuzz"; exit 2; }
rustc --version | grep -q nightly || export RUSTC_BOOTSTRAP=1
tests=../crates/text-encoders/tests/data/tokenizers
for target in $targets; do
    found=corpus/$target
    mkdir -p "$found"
    case $target in
        pickle) seeds=../crates/refcoco-data/tests/fixtures ;;
        sentencepiece | merges) seeds=$tests ;;
        *) seeds=seeds/$target ;;
    esac
    echo "fuzz: $target, $seconds s"
    cargo fuzz run --fuzz-dir . "$target" "$found" "$seeds" -- \
        -max_total_time="$seconds" -timeout=3 -rss_limit_mb=512 -max_len=20000 -print_final_stats=1
done
