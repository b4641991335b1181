//! Rust source without what is no code: comments, strings and characters become blanks, lines stay where they are.

/// Returns the source with everything that is no code blanked out.
pub(super) fn scrub(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let length = if rest.starts_with(b"//") {
            rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(bytes, at) {
            length
        } else if rest[0] == b'"' {
            quoted(rest, b'"')
        } else if rest[0] == b'\'' {
            character(rest)
        } else {
            0
        };
        if length > 0 {
            code[at..at + length].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        }
        at += length.max(1);
    }
    String::from_utf8_lossy(&code).into_owned()
}

fn block_comment(text: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// Returns the length of a raw string that begins here.
fn raw_string(text: &[u8], start: usize) -> Option<usize> {
    let follows_name = start > 0 && (text[start - 1].is_ascii_alphanumeric() || text[start - 1] == b'_');
    let rest = &text[start..];
    if follows_name && rest[0] != b'"' {
        return None;
    }
    let prefix = if rest.starts_with(b"br") { 2 } else { 1 };
    if rest[0] != b'r' && !rest.starts_with(b"br") {
        return None;
    }
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(prefix + hashes) != Some(&b'"') {
        return None;
    }
    let end = [&b"\""[..], &vec![b'#'; hashes]].concat();
    let body = prefix + hashes + 1;
    let found = rest[body..].windows(end.len()).position(|window| window == end);
    Some(found.map_or(rest.len(), |position| body + position + end.len()))
}

fn quoted(text: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < text.len() && text[at] != quote {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

/// Returns the length of a character, or 0 where the quote begins a lifetime.
fn character(text: &[u8]) -> usize {
    match text.get(1) {
        Some(b'\\') => quoted(text, b'\''),
        Some(_) => {
            let width = std::str::from_utf8(&text[1..text.len().min(5)])
                .or_else(|error| std::str::from_utf8(&text[1..1 + error.valid_up_to()]))
                .ok()
                .and_then(|text| text.chars().next())
                .map_or(1, char::len_utf8);
            if text.get(1 + width) == Some(&b'\'') { width + 2 } else { 0 }
        }
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_stays() {
        let source = "let a = \"fn {\\\" }\"; // fn x() {\n/* { /* } */ */ let c = '{'; let s: &'a str = r#\"{\"}\"#;\nlet b = '\\'';";
        let code = scrub(source);
        assert!(!code.contains(['{', '}']), "{code}");
        assert!(code.contains("&'a str") && code.contains("let b"), "{code}");
        assert_eq!(code.lines().count(), 3);
    }
}
