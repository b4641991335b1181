//! Service files: `[name]` sections of `key=value` lines (PostgreSQL documentation, 34.17).

use super::text::{ConnectionTextError, Keywords, is_known};

/// Returns the parameters of a service; `None` where the file has no such section.
pub(super) fn find(file: &str, name: &str) -> Result<Option<Keywords>, ConnectionTextError> {
    let mut found: Option<Keywords> = None;
    let mut inside = false;
    for (number, line) in file.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[') {
            if inside {
                return Ok(found);
            }
            inside = section.strip_suffix(']') == Some(name);
            if inside {
                found = Some(Keywords::new());
            }
            continue;
        }
        let Some(found) = found.as_mut().filter(|_| inside) else { continue };
        let wrong =
            |what: &str| ConnectionTextError(format!("line {} of the service file {what}", number + 1));
        let (key, value) = line.split_once('=').ok_or_else(|| wrong("has no `=`"))?;
        let (key, value) = (key.trim(), value.trim());
        if key == "service" {
            return Err(wrong("names a service inside a service"));
        }
        if !is_known(key) {
            return Err(wrong("has an unknown keyword"));
        }
        // Of two lines for a keyword the first counts.
        found.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FILE: &str =
        "# services\n[other]\nhost=elsewhere\n\n[erp]\nhost = db1\nport=5433\nport=1\n[more]\nuser=x\n";

    #[test]
    fn a_section_is_found_by_its_name() {
        let erp = find(FILE, "erp").unwrap().unwrap();
        assert_eq!(erp.get("host").map(String::as_str), Some("db1"));
        assert_eq!(erp.get("port").map(String::as_str), Some("5433"));
        assert_eq!(erp.len(), 2);
        assert_eq!(find(FILE, "er").unwrap(), None);
    }

    #[test]
    fn a_wrong_line_is_named_and_not_quoted() {
        let error = find("[erp]\npassword hunter2\n", "erp").unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
        assert!(find("[erp]\ncolour=red\n", "erp").is_err());
        assert!(find("[other]\ncolour=red\n[erp]\n", "erp").unwrap().unwrap().is_empty());
    }
}
