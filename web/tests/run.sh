#!/bin/sh
# The package in Node and the page in Chromium: sh web/tests/run.sh SAYMASK MODEL [BUILT] [SCREENSHOTS]
#   SAYMASK  the program, which judges; MODEL an exported folder; BUILT where `cargo xtask web --out BUILT --model MODEL` was (else target/web).
# What is missing here is said and skipped.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
program=$1
model=$2
built=${3:-$root/target/web}
skip() { echo "skipped: $1"; exit 0; }

command -v node >/dev/null || skip "the package is tested by node (apt-get install nodejs npm)"
[ -d "$built/saymask-web" ] || { echo "$built: nothing is built there: cargo xtask web --model $model"; exit 1; }
node "$here/node.mjs" "$built/saymask-web" "$model" "$program"

# The page has not passed its test yet, so it is asked for by name.
browser=${CHROMIUM:-}
[ -n "$browser" ] || skip "the page is tested in Chromium only with CHROMIUM=/path/to/it"
if [ ! -d "$root/tests/browser/node_modules/playwright-core" ]; then
    (cd "$root/tests/browser" && npm install --silent --no-audit --no-fund) || skip "npm could not install playwright-core"
fi
CHROMIUM=$browser node "$here/page.mjs" "$built/page" "$model" "$program" ${4:+"$4"}
