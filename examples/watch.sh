#!/bin/sh
# Watch a certificate tighten, with curl: events as they come. Needs a server (`make serve`) and curl.
#
#   examples/watch.sh [http://127.0.0.1:8000]
set -eu
server=${1:-http://127.0.0.1:8000}
here=$(dirname "$0")

# `base` comes at once and claims nothing; each `certificate` is what its draws prove; `final` is the answer that the
# same request gets without the Accept field.
curl --silent --show-error --fail --no-buffer --data-binary "@$here/sneaker.png" -H 'Content-Type: image/png' \
    -H 'Accept: text/event-stream' "$server/v1/models/fashion-mnist:predict?certify=best&max_draws=2000&deadline_ms=60000"
