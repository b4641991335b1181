//! Crontabs: of this user by `crontab -l`, and files of cron lines.

use super::*;
use crate::support::outcome;
use std::os::unix::fs::PermissionsExt;

const CRONTAB: &str = "MAILTO=root\n# nightly\n0 2 * * * sqlite3 HERE/shop.db .dump | gzip > HERE/dumps/shop_$(date +\\%Y\\%m\\%d).sql.gz\n\
    30 3 * * sun find HERE/dumps -name 'shop_*.gz' -mtime +30 -delete\n@daily /usr/local/bin/backup-all.sh\n\
    */5 * * * * /usr/bin/uptime > /dev/null\n";

#[test]
fn the_lines_of_a_crontab_are_taken_over_with_their_times() {
    let machine = Machine::new();
    machine.database("shop.db", 10);
    std::fs::create_dir_all(machine.path("dumps")).unwrap();
    let text = CRONTAB.replace("HERE/", &machine.text(""));
    machine.write("cron.d", &text);
    machine.write("bin/crontab", &format!("#!/bin/sh\n[ \"$1\" = -l ] && cat {}\n", machine.text("cron.d")));
    std::fs::set_permissions(machine.path("bin/crontab"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let with_crontab = |arguments: &[&str]| {
        let path = format!("{}:/usr/bin:/bin", machine.text("bin"));
        outcome(machine.command().env("PATH", path).args(arguments))
    };
    for script in ["crontab", "cron.d"] {
        let outcome = with_crontab(&["takeover", script, "--json", "--dry-run"]);
        assert_eq!(outcome.code, 3, "{}", outcome.err);
        let report = outcome.json();
        let lines: Vec<u64> = super::left(&report).iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [5, 6], "{report}");
        assert!(
            report["not_understood"][0]["reason"].as_str().unwrap().contains("calls a script"),
            "{report}"
        );
        assert_eq!(of_targets(&report, "names"), ["{target}_{local_time}.{ext}"]);
        assert_eq!(of_targets(&report, "keep"), ["max_age = \"30d\""]);
        let schedule = &report["schedules"][0];
        assert_eq!((&schedule["line"], &schedule["when"]), (&3.into(), &"0 2 * * *".into()), "{report}");
        assert_eq!(schedule["command"], "backstay backup shop --quiet");
    }
    // Without a name it goes where a configuration is looked for, and is found there.
    let written = with_crontab(&["takeover", "crontab", "--yes"]);
    assert_eq!(written.code, 3, "{}", written.err);
    assert!(
        written.err.contains("in place of line 3:  0 2 * * * backstay backup shop --quiet"),
        "{}",
        written.err
    );
    machine.done(&["backup", "shop"]);
    assert_eq!(machine.done(&["list", "--json"]).json()["backups"].as_array().unwrap().len(), 1);
    let none = outcome(machine.command().env("PATH", machine.text("none")).args(["takeover", "crontab"]));
    assert_eq!(none.code, 20, "{}", none.err);
}
