//! What a statement sets.

/// Returns what a `SET` gives a setting, without the quotes of texts; `None` where the statement is another one.
pub(in crate::postgres) fn setting(statement: &[u8], name: &str) -> Option<String> {
    let text = std::str::from_utf8(statement.get(..120.min(statement.len()))?).ok()?;
    let mut words = text
        .split(|letter: char| letter.is_ascii_whitespace() || letter == '=')
        .filter(|word| !word.is_empty());
    if !words.next()?.eq_ignore_ascii_case("SET") {
        return None;
    }
    let mut named = words.next()?;
    if named.eq_ignore_ascii_case("SESSION") || named.eq_ignore_ascii_case("LOCAL") {
        named = words.next()?;
    }
    if !named.eq_ignore_ascii_case(name) {
        return None;
    }
    let value = words.find(|word| !word.eq_ignore_ascii_case("TO"))?;
    Some(value.trim_matches('\'').to_owned())
}
