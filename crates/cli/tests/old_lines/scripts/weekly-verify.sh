#!/bin/sh
# Every week: does the newest dump of each tenant make a database again?
# Was: f=$(ls -t "$DUMPS/$t"-*.sql | head -1); rm -f /tmp/t.db; sqlite3 /tmp/t.db < "$f"; sqlite3 /tmp/t.db 'PRAGMA integrity_check'
DUMPS=$1
shift
failed=0
for tenant in "$@"; do
    if ! backstay verify "$DUMPS/$tenant-*.sql" --latest --sqlite-tmp verify-tmp.db --report "verify-$tenant.json" --quiet > /dev/null 2>&1; then
        echo "$tenant: $(jq -r '.files[0].error // .error.message' "verify-$tenant.json")" >> alerts
        failed=1
    fi
done
exit $failed
