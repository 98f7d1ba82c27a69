#!/usr/bin/env bash
# CUDA without LLVM: kernels are CUDA C++, compiled by NVRTC at run time; nothing is downloaded but crates.
#
#   tools/cuda-nvrtc.sh run -- devices          as `cargo run --package saymask --features cuda-nvrtc -- devices`
#   tools/cuda-nvrtc.sh build --release         and so on: a cargo command, then its options
#   PACKAGE=saymask-bench tools/cuda-nvrtc.sh build   the benches
#
# The patched graph has a Cargo.lock of its own. So cargo works in a shadow of this workspace below target/, made of links,
# whose lock begins as a copy of ours: every version stays pinned, and the tree stays clean.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
[ $# -gt 0 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
command=$1
shift
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target/cuda}
shadow=$CARGO_TARGET_DIR/nvrtc-workspace
mkdir -p "$shadow"
for entry in .cargo README.md bench configs crates docs tests tools xtask Cargo.toml; do
  ln -sfn "$root/$entry" "$shadow/$entry"
done
# A fresh copy only where ours has changed, so that an unchanged tree is not resolved again.
if ! cmp -s "$root/Cargo.lock" "$shadow/Cargo.lock.from"; then
  cp "$root/Cargo.lock" "$shadow/Cargo.lock"
  cp "$root/Cargo.lock" "$shadow/Cargo.lock.from"
fi
exec cargo --config "$root/tools/nvrtc-only.toml" "$command" --manifest-path "$shadow/Cargo.toml" --package "${PACKAGE:-saymask}" \
  --features cuda-nvrtc "$@"
