#!/bin/sh
# Every morning: are the dumps whole, and none of them too old? Was: validate.py "$DUMPS" --max-age-days 7 --report r.json
set -u
DUMPS=$1
REPORT=$2
backstay verify "$DUMPS" --max-age-days 7 --report "$REPORT" --quiet > /dev/null 2> "$REPORT.err"
code=$?
if [ "$code" -ne 0 ] || [ "$(jq -r .summary.all_valid "$REPORT")" != true ]; then
    echo "dumps of $DUMPS: exit $code, $(jq -r '.summary.invalid // "none"' "$REPORT") of $(jq -r '.summary.total_files // "no"' "$REPORT") bad" >> alerts
    jq -r '.files[] | select(.valid | not) | "  " + (.path | split("/") | last) + ": " + .error' "$REPORT" >> alerts
    exit 1
fi
