#!/bin/sh
# Ask with curl: a picture, then rows of grid integers. Needs a server (`make serve`) and curl.
#
#   examples/ask.sh [http://127.0.0.1:8000]
set -eu
server=${1:-http://127.0.0.1:8000}
model=$server/v1/models/fashion-mnist:predict
here=$(dirname "$0")

echo "Is the server ready?"
curl --silent --show-error --fail "$server/v2/health/ready"
echo

# A picture goes as it is, and what is asked for goes into the query: draw until a radius of 0.5 is proven or refuted.
echo "A picture, certified:"
curl --silent --show-error --fail --data-binary "@$here/sneaker.png" -H 'Content-Type: image/png' \
    "$model?certify=target&target_radius=0.5"
echo

# The same in JSON: one instance of shape 1 x 28 x 28, here all black. `best` proves as much as 320 noisy passes allow.
row=$(printf '0,%.0s' $(seq 28)) && row="[${row%,}]"
rows=$(printf "$row,%.0s" $(seq 28)) && rows="[${rows%,}]"
echo "Grid integers, certified as far as 320 draws go:"
curl --silent --show-error --fail -H 'Content-Type: application/json' \
    --data "{\"instances\": [[$rows]], \"certify\": \"best\", \"max_draws\": 320}" "$model"
echo

# What is wrong is said, with how to mend it. Here the answer is an error, so there is no --fail.
echo "An option that is none:"
curl --silent --show-error --data-binary "@$here/sneaker.png" -H 'Content-Type: image/png' "$model?colour=red"
echo
