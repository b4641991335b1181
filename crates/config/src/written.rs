//! Settings as written: the keys that a configuration file may have, and those that a later version will have.

use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    pub(crate) repository: Option<String>,
    #[serde(default)]
    pub(crate) repositories: BTreeMap<String, WrittenRepository>,
    #[serde(default)]
    pub(crate) targets: BTreeMap<String, WrittenTarget>,
    #[serde(default)]
    pub(crate) pruning: WrittenPruning,
    #[serde(default)]
    pub(crate) restoration: WrittenRestoration,
    #[serde(default)]
    pub(crate) validation: WrittenValidation,
    #[serde(default)]
    pub(crate) logging: WrittenLogging,
}

/// The section of folder tools, with their names.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenPruning {
    pub(crate) default_age_days: Option<u32>,
    pub(crate) default_keep_count: Option<u32>,
    pub(crate) default_max_size_gb: Option<f64>,
}

/// Another section of folder tools.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenRestoration {
    pub(crate) verify_integrity: Option<bool>,
    pub(crate) create_safety_backup: Option<bool>,
    pub(crate) safety_backup_suffix: Option<String>,
}

/// Another one.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenValidation {
    pub(crate) max_age_days: Option<u32>,
    pub(crate) min_size_mb: Option<f64>,
    pub(crate) max_size_gb: Option<f64>,
    #[serde(default)]
    pub(crate) file_patterns: Vec<String>,
}

/// The last one.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenLogging {
    pub(crate) level: Option<String>,
    pub(crate) format: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenRepository {
    pub(crate) path: String,
    pub(crate) layout: Option<String>,
    pub(crate) names: Option<String>,
    #[serde(default)]
    pub(crate) age_recipients: Vec<String>,
    pub(crate) age_identity: Option<String>,
    pub(crate) password_file: Option<String>,
    pub(crate) password_command: Option<Vec<String>>,
    pub(crate) compression_level: Option<i32>,
    pub(crate) pack_mib: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenTarget {
    pub(crate) source: String,
    pub(crate) tenants: Option<WrittenTenants>,
    pub(crate) passfile: Option<String>,
    #[serde(default)]
    pub(crate) hooks: WrittenHooks,
    #[serde(default)]
    pub(crate) restore: WrittenRestore,
    #[serde(default)]
    pub(crate) plans: BTreeMap<String, WrittenPlan>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenTenants {
    pub(crate) database: Option<String>,
    pub(crate) sql: Option<String>,
    pub(crate) names: Option<Vec<String>>,
    pub(crate) file: Option<String>,
    pub(crate) variable: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenHooks {
    pub(crate) before_backup: Option<Vec<String>>,
    pub(crate) after_backup: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenRestore {
    pub(crate) stop: Option<Vec<String>>,
    pub(crate) start: Option<Vec<String>>,
    pub(crate) health_url: Option<String>,
    pub(crate) safety_dir: Option<String>,
    pub(crate) safety_keep: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenPlan {
    pub(crate) repository: Option<String>,
    pub(crate) form: Option<String>,
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    pub(crate) keep: Option<WrittenKeep>,
    pub(crate) time_zone: Option<String>,
    #[serde(default)]
    pub(crate) schema_only: bool,
    #[serde(default)]
    pub(crate) data_only: bool,
    #[serde(default)]
    pub(crate) tables: Vec<String>,
    #[serde(default)]
    pub(crate) schemas: Vec<String>,
    #[serde(default)]
    pub(crate) exclude_table_data: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenKeep {
    pub(crate) last: Option<u32>,
    pub(crate) hourly: Option<u32>,
    pub(crate) daily: Option<u32>,
    pub(crate) weekly: Option<u32>,
    pub(crate) monthly: Option<u32>,
    pub(crate) yearly: Option<u32>,
    pub(crate) within: Option<String>,
    pub(crate) max_age: Option<String>,
    pub(crate) max_size: Option<String>,
    pub(crate) min: Option<u32>,
}

/// Keys whose feature a later version brings, with what this one does not do.
const NOT_YET: &[(&str, &str)] = &[
    ("schedule", "run backups on a schedule"),
    ("objectives", "watch objectives"),
    ("checks", "run checks of your own"),
    ("notify", "send messages"),
];

/// Returns what this version does not do yet, where a key stands for such a thing.
pub(crate) fn not_yet(key: &str) -> Option<&'static str> {
    NOT_YET.iter().find(|(name, _)| *name == key).map(|(_, what)| *what)
}
