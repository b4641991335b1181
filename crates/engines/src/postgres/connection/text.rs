//! A connection as text: a URL (`postgres://user@host:port/database?key=value`) or `key=value` pairs, as libpq reads
//! them (PostgreSQL documentation, 34.1.1 "Connection Strings").

use std::collections::BTreeMap;

/// Why a connection string cannot be read. Never quotes the string: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConnectionTextError(pub String);

/// Connection parameters by libpq's keyword. Several hosts are joined by commas, as libpq has them.
pub type Keywords = BTreeMap<String, String>;

/// The keywords that libpq knows (34.1.2), beside those that only old versions had.
const KNOWN: [&str; 44] = [
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "passfile",
    "require_auth",
    "channel_binding",
    "connect_timeout",
    "client_encoding",
    "options",
    "application_name",
    "fallback_application_name",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "replication",
    "gssencmode",
    "sslmode",
    "sslnegotiation",
    "requiressl",
    "sslcompression",
    "sslcert",
    "sslkey",
    "sslkeylogfile",
    "sslpassword",
    "sslcertmode",
    "sslrootcert",
    "sslcrl",
    "sslcrldir",
    "sslsni",
    "requirepeer",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "min_protocol_version",
    "krbsrvname",
    "gsslib",
    "gssdelegation",
    "service",
    "target_session_attrs",
    "load_balance_hosts",
];

fn refuse<T>(message: impl Into<String>) -> Result<T, ConnectionTextError> {
    Err(ConnectionTextError(message.into()))
}

/// Tells whether libpq knows a keyword.
pub(super) fn is_known(keyword: &str) -> bool {
    KNOWN.contains(&keyword)
}

/// Reads a connection string of either form. A bare word is the name of a database.
pub fn parse(text: &str) -> Result<Keywords, ConnectionTextError> {
    if let Some(rest) = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")) {
        return url(rest);
    }
    if text.contains('=') {
        return pairs(text);
    }
    Ok(Keywords::from([("dbname".to_owned(), text.to_owned())]))
}

fn url(rest: &str) -> Result<Keywords, ConnectionTextError> {
    let mut found = Keywords::new();
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (authority, path) = rest.split_once('/').map_or((rest, None), |(rest, path)| (rest, Some(path)));
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (Some(user), hosts),
        None => (None, authority),
    };
    if let Some(user) = user {
        let (user, password) = user.split_once(':').map_or((user, None), |(user, word)| (user, Some(word)));
        put(&mut found, "user", &decoded(user)?);
        if let Some(password) = password {
            put(&mut found, "password", &decoded(password)?);
        }
    }
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',') {
        let (name, port) = host_and_port(host)?;
        names.push(decoded(name)?);
        ports.push(port.to_owned());
    }
    if names.iter().any(|name| !name.is_empty()) {
        put(&mut found, "host", &names.join(","));
    }
    if ports.iter().any(|port| !port.is_empty()) {
        put(&mut found, "port", &ports.join(","));
    }
    if let Some(path) = path {
        put(&mut found, "dbname", &decoded(path)?);
    }
    for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return refuse("a parameter of the URL has no `=`");
        };
        let (key, value) = (decoded(key)?, decoded(value)?);
        match (key.as_str(), value.as_str()) {
            // As JDBC spells it; libpq takes it too.
            ("ssl", "true") => put(&mut found, "sslmode", "require"),
            (key, value) if is_known(key) => put(&mut found, key, value),
            (key, _) => return refuse(format!("the URL has the unknown parameter `{key}`")),
        }
    }
    Ok(found)
}

fn host_and_port(text: &str) -> Result<(&str, &str), ConnectionTextError> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(inside) => match inside.split_once(']') {
            Some((host, rest)) => (host, rest),
            None => return refuse("an address in brackets has no end"),
        },
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => port,
        None if rest.is_empty() => "",
        None => return refuse("something stands between a host and its port"),
    };
    if !port.bytes().all(|digit| digit.is_ascii_digit()) {
        return refuse("a port is no number");
    }
    Ok((host, port))
}

fn put(found: &mut Keywords, key: &str, value: &str) {
    if !value.is_empty() {
        found.insert(key.to_owned(), value.to_owned());
    }
}

/// Decodes `%41`.
fn decoded(text: &str) -> Result<String, ConnectionTextError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match (digit(rest.next()), digit(rest.next())) {
            (Some(high), Some(low)) if (high, low) != (0, 0) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
            }
            _ => return refuse("a `%` in the URL is not followed by two digits"),
        }
    }
    String::from_utf8(bytes).or_else(|_| refuse("the URL is not UTF-8"))
}

/// Reads `key=value key2 = 'quoted \' value'`.
fn pairs(text: &str) -> Result<Keywords, ConnectionTextError> {
    let mut found = Keywords::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let Some(end) = rest.find(|letter: char| letter == '=' || letter.is_whitespace()) else {
            return refuse("a keyword of the connection has no `=`");
        };
        let (key, after) = rest.split_at(end);
        let Some(value) = after.trim_start().strip_prefix('=') else {
            return refuse(format!("there is no `=` after `{key}`"));
        };
        if !is_known(key) {
            return refuse(format!("the connection has the unknown keyword `{key}`"));
        }
        let (value, after) = value_of(value.trim_start())?;
        put(&mut found, key, &value);
        rest = after.trim_start();
    }
    Ok(found)
}

fn value_of(text: &str) -> Result<(String, &str), ConnectionTextError> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut letters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some((_, escaped)) => value.push(escaped),
                None => return refuse("the connection ends with a backslash"),
            },
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            letter if !quoted && letter.is_whitespace() => return Ok((value, &text[at..])),
            letter => value.push(letter),
        }
    }
    if quoted { refuse("a quoted value of the connection has no end") } else { Ok((value, "")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn keywords(pairs: &[(&str, &str)]) -> Keywords {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn urls_of_the_documentation() {
        for (url, expected) in [
            ("postgresql://", &[][..]),
            ("postgresql://localhost", &[("host", "localhost")]),
            ("postgresql://localhost:5433", &[("host", "localhost"), ("port", "5433")]),
            ("postgresql://localhost/mydb", &[("host", "localhost"), ("dbname", "mydb")]),
            ("postgresql://user@localhost", &[("host", "localhost"), ("user", "user")]),
            (
                "postgres://other@localhost/otherdb?connect_timeout=10&application_name=myapp",
                &[
                    ("host", "localhost"),
                    ("user", "other"),
                    ("dbname", "otherdb"),
                    ("connect_timeout", "10"),
                    ("application_name", "myapp"),
                ],
            ),
            (
                "postgresql://host1:123,host2:456/somedb?target_session_attrs=any",
                &[
                    ("host", "host1,host2"),
                    ("port", "123,456"),
                    ("dbname", "somedb"),
                    ("target_session_attrs", "any"),
                ],
            ),
            (
                "postgresql:///mydb?host=localhost&port=5433",
                &[("host", "localhost"), ("port", "5433"), ("dbname", "mydb")],
            ),
            ("postgresql://[2001:db8::1234]/database", &[("host", "2001:db8::1234"), ("dbname", "database")]),
            (
                "postgresql://%2Fvar%2Flib%2Fpostgresql/dbname",
                &[("host", "/var/lib/postgresql"), ("dbname", "dbname")],
            ),
            (
                "postgresql://u%40h:p%3Aw@h/d%2Fb",
                &[("user", "u@h"), ("password", "p:w"), ("host", "h"), ("dbname", "d/b")],
            ),
            ("postgresql:///d?ssl=true", &[("dbname", "d"), ("sslmode", "require")]),
        ] {
            assert_eq!(parse(url).unwrap(), keywords(expected), "{url}");
        }
    }

    #[test]
    fn pairs_of_the_documentation() {
        for (text, expected) in [
            (
                "host=localhost port=5432 dbname=mydb connect_timeout=10",
                &[("host", "localhost"), ("port", "5432"), ("dbname", "mydb"), ("connect_timeout", "10")][..],
            ),
            (r"user = 'o\'brien' password=a\\b\ c", &[("user", "o'brien"), ("password", r"a\b c")]),
            ("options='-c geqo=off' dbname=''", &[("options", "-c geqo=off")]),
            ("erp", &[("dbname", "erp")]),
        ] {
            assert_eq!(parse(text).unwrap(), keywords(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_the_password() {
        for text in [
            "postgres://u:hunter2@h:54x/d",
            "postgres://u:hunter2@[::1/d",
            "postgres://u:hunter2@h/d?colour=red",
            "postgres://u:hunter2@h/d?sslmode",
            "postgres://u:hunter2%zz@h/d",
            "postgres://u:hunter2%00@h/d",
            "password=hunter2 colour=red",
            "password='hunter2",
            "password=hunter2 user",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
    }
}
