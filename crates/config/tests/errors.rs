//! Every error of a configuration names file, line and key, says what to write instead, and never quotes a value.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

fn refusal(file: &str, text: &str) -> (String, String) {
    let error = config::read_text(Path::new(file), text).expect_err(text);
    (error.to_string(), error.hint.unwrap_or_default())
}

const TOML: &[(&str, &str, &str)] = &[
    (
        "[targets.erp]\nsource = \"/x.db\"\n\n[targets.erp.restore]\nstop = \"systemctl stop x\"\n",
        "c.toml:5:1: `targets.erp.restore.stop`: expected a sequence, found string",
        "write it as a list: [\"systemctl\", \"stop\", \"x\"]",
    ),
    (
        "[targets.erp]\nsource = \"/x.db\"\n\n[targets.erp.plans.nightly]\ntags = \"weekly\"\n",
        "c.toml:5:1: `targets.erp.plans.nightly.tags`: expected a sequence, found string",
        "write it as a list: [\"weekly\"]",
    ),
    (
        "[repositories.main]\npath = \"/b\"\npasword_file = \"x\"\n",
        "c.toml:3:1: `repositories.main.pasword_file`: unknown key",
        "did you mean `password_file`?",
    ),
    (
        "[targets.erp]\nsource = \"/x.db\"\n[targets.erp.plans.a]\ntables = [\"t\"]\n",
        "c.toml:4:1: `targets.erp.plans.a.tables`: parts are for PostgreSQL, and this source is none",
        "take the key out: a SQLite backup is the whole database",
    ),
    (
        "[targets.erp]\nsource = \"postgres:///erp\"\n[targets.erp.plans.a]\nschema_only = true\ndata_only = true\n",
        "c.toml:5:1: `targets.erp.plans.a.data_only`: `schema_only` is given too",
        "keep one of the two; without both, definitions and rows are backed up",
    ),
    (
        "[targets.erp]\nsource = \"postgres:///erp\"\n[targets.erp.plans.a]\nschemas = \"sales\"\n",
        "c.toml:4:1: `targets.erp.plans.a.schemas`: expected a sequence, found string",
        "write it as a list: [\"sales\"]",
    ),
    (
        "[targets.erp]\nsource = \"/x/{tenant}.db\"\ntenants = { database = \"c\", sql = \"SELECT 1\" }\n",
        "c.toml:3:1: `targets.erp.tenants`: tenants are asked for by SQL where the source is a PostgreSQL URL with `{tenant}` in its database",
        "write the source as in \"postgres://db1/shop_{tenant}\", or take the key out",
    ),
    (
        "[targets.erp]\nsource = \"postgres:///s_{tenant}\"\ntenants = { database = \"c\", sql = \" \" }\n",
        "c.toml:3:1: `targets.erp.tenants`: `database` and `sql` are both needed",
        "write { database = \"control\", sql = \"SELECT name FROM customers WHERE active\" }",
    ),
    ("repositry = \"main\"", "c.toml:1:1: `repositry`: unknown key", "did you mean `repository`?"),
    (
        "[repositories.main]\npath = \"/b\"\npassword = \"geheim\"\n",
        "c.toml:3:1: `repositories.main.password`: unknown key",
        "a password does not belong here; write `password_file` or `password_command`",
    ),
    (
        "[repositories.main]\npath = \"/b\"\nlayout = \"files\"\nnames = \"{target}.{ext}\"\n",
        "c.toml:4:1: `repositories.main.names`: a name has {timestamp} or {local_time} in it",
        "write it as in \"{target}_backup_{database}_{timestamp}.{ext}\"",
    ),
    (
        "[repositories.main]\npath = \"/b\"\nlayout = \"files\"\npack_mib = 16\n",
        "c.toml:4:1: `repositories.main.pack_mib`: the key is for the layout `restic`",
        "take the key out: the files of a folder are plain dumps",
    ),
    (
        "[targets.erp]\nsource = \"/x.db\"\n\n[targets.erp.plans.nightly]\nform = \"sql.gz\"\n",
        "c.toml:5:1: `targets.erp.plans.nightly.form`: the plan writes into a repository of layout `restic`, which keeps no single files",
        "name a repository with layout = \"files\" in the plan, or take the key out",
    ),
    (
        "[targets.erp]\nsource = \"/x.db\"\n\n[targets.erp.plans.nightly]\nform = \"dump.gz\"\n",
        "c.toml:5:1: `targets.erp.plans.nightly.form`: a database of this system has no such form",
        "write `db` or `sql`, then .gz, .zst, .lz4, .xz or .bz2 where it shall be compressed, then .age where it shall be encrypted, as in \"sql.gz\"",
    ),
    (
        "[targets.erp]\nsource = \"/x.db\"\n\n[targets.erp.plans.nightly]\nschedule = \"0 2 * * *\"\n",
        "c.toml:5:1: `targets.erp.plans.nightly.schedule`: this version does not run backups on a schedule yet",
        "take the key out",
    ),
    (
        "[targets.erp]\nsource = \"/x.db\"\n[targets.erp.plans.a]\nkeep = { daily = 7, mothly = 3 }\n",
        "c.toml:4:21: `targets.erp.plans.a.keep.mothly`: unknown key",
        "did you mean `monthly`?",
    ),
    (
        "[targets.erp]\nsource = \"/x.db\"\n[targets.erp.plans.a]\nkeep = { daily = 0 }\n",
        "c.toml:4:10: `targets.erp.plans.a.keep.daily`: nothing is kept by 0",
        "write 1 or more, or take the key out",
    ),
    (
        "[targets.erp]\nsource = \"/x.db\"\n[targets.erp.plans.a]\nkeep = { min = 2 }\n",
        "c.toml:4:1: `targets.erp.plans.a.keep`: it has no rule",
        "say what to keep, as in { daily = 7, weekly = 4 }, or take the key out",
    ),
    (
        "[targets.erp]\nsource = \"/x.db\"\n[targets.erp.plans.a.keep]\nwithin = \"12\"\n",
        "c.toml:4:1: `targets.erp.plans.a.keep.within`: the last number has no unit",
        "write numbers with y, m (months), w, d or h, as in \"12w\" or \"1y6m\"",
    ),
    (
        "[targets.erp]\nsource = \"/x.db\"\n[targets.erp.plans.a.keep]\nmax_size = \"10\"\n",
        "c.toml:4:1: `targets.erp.plans.a.keep.max_size`: that is no size",
        "write a number with kB, MB, GB, TB or KiB, MiB, GiB, TiB, as in \"10GB\"",
    ),
    (
        "[targets.erp]\nsource = \"/x.db\"\n[targets.erp.plans.a]\ntime_zone = \"Berlin\"\n",
        "c.toml:4:1: `targets.erp.plans.a.time_zone`: there is no time zone \"Berlin\"",
        "write a name of the time zone database, as in \"Europe/Berlin\" or \"UTC\"",
    ),
    (
        "[targets.erp]\nsource = \"/x.db\"\nobjectives = { rpo = \"26h\" }\n",
        "c.toml:3:1: `targets.erp.objectives`: this version does not watch objectives yet",
        "take the key out",
    ),
    (
        "[targets.erp]\nsource = \"/x.db\"\n[[targets.erp.checks]]\nname = \"a\"\n",
        "c.toml:3:15: `targets.erp.checks`: this version does not run checks of your own yet",
        "take the key out",
    ),
    (
        "[targets.erp]\nsource = \"/x.db\"\nrestore = { stop = [\"a\"],\n safety_keep = \"7 days\" }\n",
        "c.toml:4:2: `targets.erp.restore.safety_keep`: there is no such unit",
        "write a span as in \"7d\" or \"2w\", or \"forever\"",
    ),
    (
        "[targets.erp]\nsource = \"/x.db\"\npassfile = \"/etc/pgpass\"\n",
        "c.toml:3:1: `targets.erp.passfile`: a password file is for PostgreSQL, and this source is none",
        "take the key out",
    ),
    (
        "[targets.erp]\nsource = \"postgres://u:geheim@db1/erp\"\n",
        "c.toml:2:1: `targets.erp.source`: the URL holds a password, which does not belong here",
        "take it out: the database's own password file or a command gives it",
    ),
    (
        "[targets.erp]\nsource = \"neo4j://u@db1/erp\"\n",
        "c.toml:2:1: `targets.erp.source`: this version backs up SQLite and PostgreSQL only",
        "name a SQLite file, a folder or a glob, or a postgres:// URL",
    ),
    (
        "[targets.erp]\nsource = \"/x.db\"\n[targets.erp.plans.a]\nrepository = \"man\"\n[repositories.main]\npath = \"/b\"\n",
        "c.toml:4:1: `targets.erp.plans.a.repository`: there is no repository \"man\"",
        "did you mean `main`?",
    ),
    (
        "[repositories.main]\npath = \"/b\"\npassword_command = \"echo geheim\"\n",
        "c.toml:3:1: `repositories.main.password_command`: expected a sequence, found string",
        "write it as a list: [\"pass\", \"show\", \"backup\"]",
    ),
    (
        "[repositories.main]\npath = \"/b\"\npack_mib = 1\n",
        "c.toml:3:1: `repositories.main.pack_mib`: packs have from 4 to 128 MiB",
        "",
    ),
    (
        "[repositories.main]\npath = \"/b\"\ncompression_level = 30\n",
        "c.toml:3:1: `repositories.main.compression_level`: the level of zstd goes from 1 to 22",
        "",
    ),
    (
        "[repositories.main]\npath = \"s3://b/x\"\n",
        "c.toml:2:1: `repositories.main.path`: this version does not reach other machines yet",
        "name a folder",
    ),
    (
        "[repositories.main]\nlayout = \"restic\"\n",
        "c.toml:1:15: `repositories.main`: `path` is missing here",
        "",
    ),
    (
        "[targets.erp]\nsource = \"/x.db\"\nhooks = { before_backup = [] }\n",
        "c.toml:3:11: `targets.erp.hooks.before_backup`: the command is empty",
        "write the program and its arguments, as in [\"systemctl\", \"stop\", \"shop\"]",
    ),
    (
        "[targets.\"a/b\"]\nsource = \"/x.db\"\n",
        "c.toml:1:10: `targets.a/b`: the name of a target has no `/`, `@` or `:`, and does not begin with a dot",
        "",
    ),
    (
        "[targets.erp]\nsource = \"~/x.db\"\n",
        "c.toml:2:1: `targets.erp.source`: `~` is not expanded here",
        "write the path in full",
    ),
];

#[test]
fn errors_of_toml_name_line_key_and_remedy() {
    for (text, message, hint) in TOML {
        assert_eq!(refusal("c.toml", text), ((*message).to_owned(), (*hint).to_owned()), "{text}");
    }
}

#[test]
fn no_error_quotes_a_value_that_may_be_secret() {
    for (text, ..) in TOML {
        let (message, hint) = refusal("c.toml", text);
        assert!(!message.contains("geheim") && !hint.contains("geheim"), "{message} {hint}");
    }
}

#[test]
fn broken_toml_names_the_line() {
    let (message, _) = refusal("c.toml", "repository = \"main\"\n[targets.erp\nsource = 1\n");
    assert!(message.starts_with("c.toml:2:"), "{message}");
}

#[test]
fn errors_of_json_name_line_key_and_remedy() {
    let text = "{\n \"repositories\": {\"main\": {\"path\": \"/b\",\n   \"pasword_file\": \"x\"}}}";
    assert_eq!(
        refusal("c.json", text),
        (
            "c.json:3:4: `repositories.main.pasword_file`: unknown key".to_owned(),
            "did you mean `password_file`?".to_owned()
        )
    );
    let (message, hint) = refusal("c.json", "{\n\"validation\": {\n\"max_age_day\": 30}}");
    assert_eq!(message, "c.json:3:1: `validation.max_age_day`: unknown key");
    assert_eq!(hint, "did you mean `max_age_days`?");
    for (text, words) in [
        (
            "{\n\"validation\": {\n\"max_age_days\": 0}}",
            "`validation.max_age_days`: the number is out of range",
        ),
        (
            "{\n\"validation\": {\n\"min_size_mb\": -1}}",
            "`validation.min_size_mb`: the number is out of range",
        ),
        ("{\n\"validation\": {\n\"file_patterns\": [\"a/*.db\"]}}", "is no pattern of names"),
        ("{\n\"logging\": {\n\"level\": \"loud\"}}", "`logging.level`: there is no level \"loud\""),
        ("{\n\"logging\": {\n\"format\": \"%(thread)s %(message)s\"}}", "%(thread)s, which nobody knows"),
        ("{\n\"logging\": {\n\"format\": \"%(asctime)s\"}}", "no %(message)s"),
    ] {
        let (message, _) = refusal("c.json", text);
        assert!(message.starts_with("c.json:3:1: ") && message.contains(words), "{message}");
    }
    let (message, _) =
        refusal("c.json", "{\n\"targets\": {\"erp\": {\n\"source\": \"postgres://u:geheim@db/x\"}}}");
    assert!(message.starts_with("c.json:3:1: `targets.erp.source`: the URL holds a password"), "{message}");
    let (message, _) = refusal("c.json", "{\n\"repository\": \"a/b\"\n");
    assert!(message.starts_with("c.json:3:") || message.starts_with("c.json:2:"), "{message}");
    let (message, _) = refusal("c.json", "{}\n{}");
    assert!(message.starts_with("c.json:2:"), "{message}");
}

#[test]
fn settings_are_resolved_from_the_folder_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let file = root.join("backstay.toml");
    std::fs::write(
        &file,
        r#"
[repositories.main]
path = "backups/main"
password_file = "keys/main.key"
[targets.shops]
source = "shops/{tenant}.db"
hooks = { before_backup = ["vpn", "up"] }
restore = { stop = ["systemctl", "stop", "shop@{tenant}"], safety_dir = "./safe" }
[targets.shops.plans.hourly]
tags = ["hot"]
"#,
    )
    .unwrap();
    let settings = config::read(&file).unwrap();
    let main = settings.repository.as_ref().unwrap();
    assert_eq!(main.path, root.join("backups/main"));
    assert_eq!(
        main.password,
        Some(flow::SecretRef::File(root.join("keys/main.key").to_str().unwrap().to_owned()))
    );
    let shops = &settings.targets["shops"];
    assert_eq!(shops.target.connection, root.join("shops/{tenant}.db").to_str().unwrap());
    assert_eq!(shops.target.name.as_str(), "shops");
    assert_eq!(shops.before_backup.as_deref(), Some(&["vpn".to_owned(), "up".to_owned()][..]));
    assert_eq!(shops.restore.safety_dir, Some(root.join("safe")));
    assert_eq!(shops.plans["hourly"].tags, ["hot"]);
    assert_eq!(shops.plans["hourly"].repository, None);
    assert_eq!(settings.repository_named("main", &root).unwrap(), *main);
    assert_eq!(settings.repository_named("./backups/main", &root).unwrap(), *main);
    assert!(settings.repository_named("mian", &root).unwrap_err().hint.unwrap().contains("main"));
}
