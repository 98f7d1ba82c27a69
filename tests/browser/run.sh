#!/bin/sh
# The page of `saymask serve` in a real browser: sh tests/browser/run.sh SAYMASK RUN [SCREENSHOTS]
#   SAYMASK  the program; RUN a run folder whose model takes clicks (DIT or EVF-SAM), or - for the model that comes with the program;
#   SCREENSHOTS  a folder for the screenshots of docs/serve.md, which are made by: sh tests/browser/run.sh SAYMASK - docs
# Installs playwright-core and axe-core beside this file and, as root on Debian, Chromium and node; where that cannot be, it says what is
# missing and ends with 0.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
skip() { echo "skipped: $1"; exit 0; }
browser() { command -v chromium || command -v chromium-browser || command -v google-chrome || true; }
have() { command -v node >/dev/null && command -v npm >/dev/null && [ -n "${CHROMIUM:-$(browser)}" ]; }

if ! have && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium nodejs npm; } >&2 || true
fi
command -v node >/dev/null || skip "the browser test needs node (apt-get install nodejs npm)"
browser=${CHROMIUM:-$(browser)}
[ -n "$browser" ] || skip "the browser test needs Chromium (apt-get install chromium, or CHROMIUM=/path/to/it)"
if [ ! -d "$here/node_modules/playwright-core" ]; then
    (cd "$here" && npm install --silent --no-audit --no-fund) || skip "npm could not install playwright-core"
fi
CHROMIUM=$browser exec node "$here/page.mjs" "$@"
