//! What a program is told of the connection: by `PG*` variables, and the password by a file of mode 0600 in the scratch
//! folder, never in an argument. The file goes when the backup is over; after a crash it stays in the scratch folder,
//! readable by its owner alone.

use crate::postgres::connection::{Host, Settings};
use crate::postgres::session::Reached;
use flow::{Context, Environment, SourceError, SourceErrorKind};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::process::Command;
use tempfile::TempDir;

/// Parameters that a program takes as they are, and their variables.
const PASSED: [(&str, &str); 7] = [
    ("channel_binding", "PGCHANNELBINDING"),
    ("gssencmode", "PGGSSENCMODE"),
    ("krbsrvname", "PGKRBSRVNAME"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("sslsni", "PGSSLSNI"),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
];

/// The variables that programs inherit, and the beginnings of the names of more.
const INHERITED: [&str; 8] = ["PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LANG", "TZ", "LD_LIBRARY_PATH"];
const INHERITED_FAMILIES: [&str; 3] = ["LC_", "KRB5", "SSL_CERT_"];

/// Returns what programs are told of peers that are gone, as a connection string: they notice them as soon as our own
/// sessions do. The rest of the connection comes by variables. `major` is the version of the program.
pub(in crate::postgres) fn liveliness(major: u32) -> String {
    let user_timeout = if major >= 12 { " tcp_user_timeout=120000" } else { "" };
    format!("keepalives_idle=60 keepalives_interval=15 keepalives_count=4{user_timeout}")
}

/// Lets programs reach the server that a session is on, as the same user.
pub(in crate::postgres) struct Access {
    variables: BTreeMap<String, String>,
    _folder: TempDir,
}

impl Access {
    /// Writes the password file and puts the variables together.
    pub(in crate::postgres) fn prepare(
        settings: &Settings,
        reached: Reached,
        object: &str,
        context: &Context,
    ) -> Result<Self, SourceError> {
        let failed = |error: std::io::Error| {
            let message = format!("scratch space in {} cannot be written", context.scratch.path().display());
            SourceError::new(SourceErrorKind::Failed, object, message)
                .with_hint("make room there, or name another scratch folder")
                .with_source(error)
        };
        let scratch = context.scratch.path();
        DirBuilder::new().recursive(true).mode(0o700).create(scratch).map_err(failed)?;
        let folder = tempfile::Builder::new().prefix("postgres-").tempdir_in(scratch).map_err(failed)?;
        let passfile = folder.path().join("pgpass");
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&passfile).map_err(failed)?;
        if let Some(password) = settings.passwords.get(reached.host).and_then(Option::as_ref) {
            let escaped = password.expose().replace('\\', "\\\\").replace(':', "\\:");
            file.write_all(format!("*:*:*:*:{escaped}\n").as_bytes()).map_err(failed)?;
        }
        let mut variables: BTreeMap<String, String> = inherited(&context.environment).collect();
        variables.extend(connection(settings, reached));
        variables.insert("PGPASSFILE".to_owned(), passfile.display().to_string());
        variables.insert("LC_ALL".to_owned(), "C".to_owned());
        // Rows that a program reads are written as our own sessions write them.
        variables.insert("PGTZ".to_owned(), "UTC".to_owned());
        Ok(Self { variables, _folder: folder })
    }

    /// Sets a setting of the sessions that programs begin from now on: `name=value`, without blanks.
    pub(in crate::postgres) fn set(&mut self, setting: &str) {
        let options = self.variables.entry("PGOPTIONS".to_owned()).or_default();
        *options = format!("{options} -c {setting}").trim_start().to_owned();
    }

    /// Gives a command its environment, and nothing else of ours.
    pub(in crate::postgres) fn apply(&self, command: &mut Command) {
        command.env_clear().envs(&self.variables);
    }
}

/// Returns what programs are given of our environment: what they need to run, and nothing else. The repository's password
/// and the keys of its storage are in there too, and everybody of the same user can read a program's environment.
pub(super) fn inherited(environment: &Environment) -> impl Iterator<Item = (String, String)> {
    let wanted = |name: &str| {
        INHERITED.contains(&name) || INHERITED_FAMILIES.iter().any(|family| name.starts_with(family))
    };
    environment
        .iter()
        .filter(move |(name, _)| wanted(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
}

fn connection(settings: &Settings, reached: Reached) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    let mut put = |name: &str, value: String| variables.push((name.to_owned(), value));
    match settings.hosts.get(reached.host) {
        Some(Host::Socket { folder, port }) => {
            put("PGHOST", folder.display().to_string());
            put("PGPORT", port.to_string());
        }
        Some(Host::Tcp { name, address, port }) => {
            put("PGHOST", name.clone());
            put("PGPORT", port.to_string());
            if let Some(address) = address {
                put("PGHOSTADDR", address.clone());
            }
        }
        None => {}
    }
    put("PGUSER", settings.user.clone());
    put("PGDATABASE", settings.database.clone());
    put("PGAPPNAME", "backstay".to_owned());
    put("PGSSLMODE", if reached.by_tls { settings.ssl_mode.word() } else { "disable" }.to_owned());
    match &settings.ssl_root {
        Some(root) => put("PGSSLROOTCERT", root.display().to_string()),
        None if reached.by_tls && settings.ssl_mode.word().starts_with("verify") => {
            put("PGSSLROOTCERT", "system".to_owned());
        }
        None => {}
    }
    if let Some((certificate, key)) = &settings.ssl_identity {
        put("PGSSLCERT", certificate.display().to_string());
        put("PGSSLKEY", key.display().to_string());
    }
    if let Some(options) = &settings.options {
        put("PGOPTIONS", options.clone());
    }
    if let Some(limit) = settings.connect_timeout {
        put("PGCONNECT_TIMEOUT", limit.as_secs().to_string());
    }
    for (keyword, variable) in PASSED {
        if let Some(value) = settings.others.get(keyword) {
            put(variable, value.clone());
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::postgres::connection::{Surroundings, resolve};
    use flow::{Environment, ScratchDir};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_password_is_in_a_file_of_its_own_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut context = Context::quiet(ScratchDir::new(folder.path().join("scratch")));
        let variables = [
            ("PGPASSWORD", "hun:ter\\2"),
            ("PGSERVICE", ""),
            ("HOME", "/nowhere"),
            ("LC_MESSAGES", "C"),
            ("BACKSTAY_PASSWORD", "ter\\2"),
            ("RESTIC_PASSWORD", "ter\\2"),
            ("AWS_SECRET_ACCESS_KEY", "ter\\2"),
        ];
        context.environment =
            Environment::new(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let around = Surroundings { environment: &context.environment, user: "anna", passfile: None };
        let settings = resolve("postgres://db1:5433/erp?sslmode=require", &around).unwrap();
        let access = Access::prepare(&settings, Reached { host: 0, by_tls: true }, "erp", &context).unwrap();
        let file = access.variables.get("PGPASSFILE").unwrap().clone();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "*:*:*:*:hun\\:ter\\\\2\n");
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert!(!access.variables.values().any(|value| value.contains("ter\\2")));
        for name in
            ["BACKSTAY_PASSWORD", "RESTIC_PASSWORD", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "PGSERVICE"]
        {
            assert_eq!(access.variables.get(name), None);
        }
        assert_eq!(access.variables.get("HOME").map(String::as_str), Some("/nowhere"));
        assert_eq!(access.variables.get("LC_MESSAGES").map(String::as_str), Some("C"));
        assert_eq!(access.variables.get("PGHOST").map(String::as_str), Some("db1"));
        assert_eq!(access.variables.get("PGSSLMODE").map(String::as_str), Some("require"));
        drop(access);
        assert!(!std::path::Path::new(&file).exists());
    }
}
