//! What the manifest of a backup that is SQL text says beside what all manifests say.

use flow::Manifest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a manifest calls the form, and its property with [`ScriptFacts`].
pub(in crate::postgres) const SCRIPT_FORM: &str = "sql";
/// The entry with the text.
pub(in crate::postgres) const SCRIPT_ENTRY: &str = "dump.sql";

/// What was found in a text when it was read to its end.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in crate::postgres) struct ScriptFacts {
    /// The rows of each table, by its name as statements quote it; `None` where that cannot be told.
    pub(in crate::postgres) loaded: BTreeMap<String, Option<u64>>,
    /// Whether nothing but what is counted changes rows.
    pub(in crate::postgres) is_certain: bool,
    /// The columns that the rows of each table name, where they name some.
    #[serde(default)]
    pub(in crate::postgres) columns: BTreeMap<String, Vec<String>>,
    /// How many tables it makes.
    #[serde(default)]
    pub(in crate::postgres) tables: u64,
    /// The first statement that changes rows in a way that does not show, with its line.
    #[serde(default)]
    pub(in crate::postgres) unclear: Option<(u64, String)>,
    /// The XXH3-128 of the text.
    pub(in crate::postgres) sum: String,
}

impl ScriptFacts {
    /// Returns those of a manifest; `None` where the backup is no SQL text.
    pub(in crate::postgres) fn of(manifest: &Manifest) -> Option<Self> {
        let facts = &manifest.facts;
        let own = facts.properties.get(SCRIPT_FORM).filter(|_| facts.form == SCRIPT_FORM)?;
        serde_json::from_value(own.clone()).ok()
    }
}

/// Tells whether a backup is SQL text.
pub(in crate::postgres) fn is_script(manifest: &Manifest) -> bool {
    manifest.facts.form == SCRIPT_FORM
}
