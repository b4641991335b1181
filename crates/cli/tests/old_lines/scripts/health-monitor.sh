#!/bin/sh
# Every hour: is there a whole dump of each database that is younger than 25 hours?
# Was: find "$DUMPS" -name "$database-*" -mmin -1500 | grep -q .
DUMPS=$1
shift
status=0
for database in "$@"; do
    if backstay verify "$DUMPS/$database-*" --latest --max-age-hours 25 --quiet > /dev/null 2>&1; then
        echo "OK $database"
    else
        echo "CRITICAL $database"
        status=2
    fi
done
exit $status
