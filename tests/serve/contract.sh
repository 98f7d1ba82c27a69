#!/bin/sh
# The API against its description: sh tests/serve/contract.sh ADDRESS [EXAMPLES]
# Asks a running `saymask serve` thousands of valid and broken requests, made by schemathesis (PyPI) from its own /openapi.json, and
# fails on a server error, on an answer that is not described, and on a body that is not what its description says.
set -eu
venv=${VENV:-$(mktemp -d)/venv}
[ -x "$venv/bin/schemathesis" ] || { python3 -m venv "$venv" && "$venv/bin/pip" install -q schemathesis; }
exec "$venv/bin/schemathesis" run "$1/openapi.json" --max-examples "${2:-100}" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,response_headers_conformance
