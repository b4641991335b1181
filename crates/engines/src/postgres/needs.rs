//! What an archive asks of the server that is to take it: roles, extensions, tablespaces. Kept in the manifest with a
//! backup, so that a restore can tell before it reads anything.

use super::archive::TableOfContents;
use super::statements::{roles, statements};
use crate::restore::Ownership;
use flow::Manifest;
use std::collections::BTreeSet;

/// Kinds of entries whose statements name roles.
pub(super) const WITH_ROLES: [&str; 4] = ["ACL", "DEFAULT ACL", "POLICY", "USER MAPPING"];

/// Where a manifest says it.
const PROPERTY: &str = "needs";

/// What an archive asks of a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Needs {
    /// Of objects, the database among them.
    pub(super) owners: BTreeSet<String>,
    /// Of objects in the database: who makes those must be able to give them away.
    pub(super) object_owners: BTreeSet<String>,
    /// Of rights.
    pub(super) granted: BTreeSet<String>,
    /// Of policies and mappings, which cannot be without them.
    pub(super) bound: BTreeSet<String>,
    pub(super) extensions: BTreeSet<String>,
    pub(super) tablespaces: BTreeSet<String>,
}

impl Needs {
    /// Returns them as a property of a manifest, with its name, by which a restore asks its server before it reads anything.
    pub(super) fn property(&self) -> (String, serde_json::Value) {
        let value = serde_json::json!({
            "owners": self.owners,
            "object_owners": self.object_owners,
            "granted": self.granted,
            "bound": self.bound,
            "extensions": self.extensions,
            "tablespaces": self.tablespaces,
        });
        (PROPERTY.to_owned(), value)
    }

    /// Returns what a manifest says that its archive needs; nothing for one that does not say.
    pub(super) fn of(manifest: &Manifest) -> Self {
        let needs = manifest.facts.properties.get(PROPERTY);
        let list = |key: &str| -> BTreeSet<String> {
            let list = needs.and_then(|needs| needs.get(key)?.as_array());
            list.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
        };
        Self {
            owners: list("owners"),
            object_owners: list("object_owners"),
            granted: list("granted"),
            bound: list("bound"),
            extensions: list("extensions"),
            tablespaces: list("tablespaces"),
        }
    }
}

fn text(bytes: Option<&Vec<u8>>) -> Option<&str> {
    std::str::from_utf8(bytes?).ok().filter(|text| !text.is_empty())
}

/// Returns what an archive asks of a server. Names that are no UTF-8 are left to the server to complain about.
pub(super) fn needs(toc: &TableOfContents) -> Needs {
    let mut needs = Needs::default();
    for entry in &toc.entries {
        let owner = text(entry.owner.as_ref()).map(str::to_owned);
        // Rights and comments of the database are said of it, and stand in its owner's name.
        let about_it = entry.tag.as_ref().is_some_and(|tag| tag.starts_with(b"DATABASE "));
        let within = !entry.is("DATABASE") && !entry.is("DATABASE PROPERTIES") && !about_it;
        needs.object_owners.extend(owner.clone().filter(|_| within));
        needs.owners.extend(owner);
        needs.tablespaces.extend(text(entry.tablespace.as_ref()).map(str::to_owned));
        if entry.is("EXTENSION") {
            needs.extensions.extend(text(entry.tag.as_ref()).map(str::to_owned));
        }
        if WITH_ROLES.iter().any(|kind| entry.is(kind)) {
            let definition = text(entry.definition.as_ref()).unwrap_or_default();
            let is_right = entry.is("ACL") || entry.is("DEFAULT ACL");
            let named = if is_right { &mut needs.granted } else { &mut needs.bound };
            for statement in statements(definition) {
                named.extend(roles(statement).into_iter().map(|(_, role)| role));
            }
        }
    }
    needs
}

impl Needs {
    /// Returns the roles that must be there, as they are called on this server.
    pub(super) fn roles(&self, ownership: &Ownership) -> BTreeSet<String> {
        let mut wanted: BTreeSet<&String> = self.bound.iter().collect();
        if !ownership.no_owner {
            wanted.extend(self.owners.iter().chain(&self.granted));
        }
        wanted.into_iter().map(|role| ownership.role_map.get(role).unwrap_or(role).clone()).collect()
    }

    /// Returns the roles that objects are given to, as they are called on this server.
    pub(super) fn given_to(&self, ownership: &Ownership) -> BTreeSet<String> {
        if ownership.no_owner {
            return BTreeSet::new();
        }
        let owners = self.object_owners.iter();
        owners.map(|role| ownership.role_map.get(role).unwrap_or(role).clone()).collect()
    }
}
