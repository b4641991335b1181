#!/bin/sh
# Somebody dropped a table: stop, restore the newest dump, keep what was there, start, and leave a report.
# Was: systemctl stop app; cp app.db "$SAFE/"; gunzip -c "$(ls -t dumps/app-* | head -1)" > app.db; systemctl start app
set -eu
backstay restore 'dumps/app-*' --target srv/app.db --yes --quiet \
    --stop-command 'echo stop >> service' --start-command 'echo start >> service' \
    --safety-backup-dir "$1" --report restore.json
jq -e '.outcome == "complete" and .verified' restore.json > /dev/null
