//! How a file is called: a template filled with target, database, plan and moment.
//!
//! What a name cannot hold is written as `%2F`, so that two databases never have one name.

use crate::dump_files::parse_name;
use flow::{DatabaseName, TargetName};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The longest name that a field may take up: filesystems know names of 255 bytes.
const FIELD_BYTES: usize = 90;

/// What a name is made of.
pub(super) struct FileName<'a> {
    pub(super) template: &'a str,
    pub(super) target: &'a TargetName,
    pub(super) database: &'a DatabaseName,
    pub(super) plan: Option<&'a str>,
    pub(super) time: Timestamp,
    pub(super) zone: &'a TimeZone,
    pub(super) ending: &'a str,
}

impl FileName<'_> {
    /// Returns the name; from the second on with its number before the endings.
    pub(super) fn text(&self, number: u32) -> String {
        let stem = self.template.strip_suffix(".{ext}").unwrap_or(self.template);
        let local = self.time.to_zoned(self.zone.clone()).strftime("%Y%m%d_%H%M%S").to_string();
        let mut text = String::new();
        let mut rest = stem;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((field, after)) = after.split_once('}') else { break };
            text.push_str(before);
            text.push_str(&match field {
                "target" => encoded(last_part(self.target.as_str())),
                "database" => encoded(self.database.as_str()),
                "plan" => encoded(self.plan.unwrap_or("backup")),
                "local_time" => local.clone(),
                _ => self.time.strftime("%Y%m%dT%H%M%SZ").to_string(),
            });
            rest = after;
        }
        text.push_str(rest);
        if text.starts_with('.') {
            text.replace_range(..1, "%2E");
        }
        let number = if number > 1 { format!("-{number}") } else { String::new() };
        format!("{text}{number}.{}", self.ending)
    }
}

/// Returns how the names of the files of a database are read by whoever knows them by their names alone: their manifests may
/// be gone.
pub fn known_as(
    template: &str,
    target: &TargetName,
    database: &DatabaseName,
    plan: Option<&str>,
) -> Option<String> {
    let zone = TimeZone::UTC;
    // Any moment does, as long as it is one that names have.
    let time = Timestamp::from_second(1_767_225_600).ok()?;
    let name = FileName { template, target, database, plan, time, zone: &zone, ending: "db" }.text(1);
    parse_name(&name, &zone).database
}

/// A target that was named in place has a path or URL for a name.
fn last_part(target: &str) -> &str {
    let path = target.split('?').next().unwrap_or(target);
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or("backup")
}

fn encoded(text: &str) -> String {
    let mut name = String::new();
    for letter in text.chars() {
        if letter == '/'
            || letter == '%'
            || letter.is_control()
            || matches!(letter, '*' | '?' | '[' | '{' | '\\')
        {
            let mut bytes = [0; 4];
            letter.encode_utf8(&mut bytes).bytes().for_each(|byte| name.push_str(&format!("%{byte:02X}")));
        } else {
            name.push(letter);
        }
        if name.len() > FIELD_BYTES {
            name.push_str(&format!(
                "%{:08X}",
                text.bytes().fold(17_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()))
            ));
            break;
        }
    }
    name
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name(template: &str, target: &str, database: &str, number: u32) -> String {
        FileName {
            template,
            target: &TargetName::new(target).unwrap(),
            database: &DatabaseName::new(database).unwrap(),
            plan: Some("nightly"),
            time: "2026-10-25T00:30:07Z".parse().unwrap(),
            zone: &TimeZone::get("Europe/Berlin").unwrap(),
            ending: "sql.gz",
        }
        .text(number)
    }

    #[test]
    fn names_say_what_they_hold_and_lead_nowhere_else() {
        let usual = "{target}_backup_{database}_{timestamp}.{ext}";
        assert_eq!(name(usual, "erp", "erp", 1), "erp_backup_erp_20261025T003007Z.sql.gz");
        assert_eq!(name(usual, "erp", "erp", 2), "erp_backup_erp_20261025T003007Z-2.sql.gz");
        assert_eq!(
            name("{database}-{local_time}.{ext}", "erp", "a/../b", 1),
            "a%2F..%2Fb-20261025_023007.sql.gz"
        );
        assert_eq!(
            name("{database}{plan}{timestamp}.{ext}", "erp", "..", 1),
            "%2E.nightly20261025T003007Z.sql.gz"
        );
        assert_eq!(
            name(usual, "/srv/shop/app.db", "app.db", 1),
            "app.db_backup_app.db_20261025T003007Z.sql.gz"
        );
        let long = name(usual, "erp", &"é".repeat(300), 1);
        assert!(long.len() < 255 && long != name(usual, "erp", &"é".repeat(301), 1), "{long}");
    }
}
