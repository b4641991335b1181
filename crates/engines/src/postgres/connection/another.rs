//! The URL of another database of the same server.

use std::fmt::Write as _;

/// Returns a connection URL with another database in it; all else stays as it is. Of a text that is no URL nothing is
/// changed.
pub fn with_database(url: &str, name: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    let authority = place.split_once('/').map_or(place, |(authority, _)| authority);
    let mut made = format!("{scheme}://{authority}/");
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            made.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(made, "%{byte:02X}");
        }
    }
    let kept: Vec<&str> = query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .filter(|pair| !pair.starts_with("dbname=") && !pair.is_empty())
        .collect();
    if !kept.is_empty() {
        made.push('?');
        made.push_str(&kept.join("&"));
    }
    made
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::parse;
    use super::*;

    #[test]
    fn only_the_database_is_another() {
        for (url, expected) in [
            ("postgres://u@db1:5433/erp?sslmode=require", "postgres://u@db1:5433/new%20one?sslmode=require"),
            ("postgres:///erp?host=/run/pg&dbname=x", "postgres:///new%20one?host=/run/pg"),
            ("postgres://db?dbname=erp", "postgres://db/new%20one"),
        ] {
            let made = with_database(url, "new one");
            assert_eq!(made, expected);
            assert_eq!(parse(&made).unwrap().get("dbname").map(String::as_str), Some("new one"));
        }
    }
}
