#!/bin/sh
# Every Sunday: what is old goes, but so many stay, and the folder does not outgrow its disk.
# Was: prune.py "$DUMPS" --age-days 30 --keep-count 5 --max-size-gb 1
set -eu
DUMPS=$1
REPORT=$2
backstay prune "$DUMPS" --age-days 30 --keep-count 5 --max-size-gb "${3:-1}" --report "$REPORT" --quiet > /dev/null
jq -r '"removed \(.removed | length), kept \(.kept | length), freed \(.freed_bytes) bytes"' "$REPORT" >> mail
