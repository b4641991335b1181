//! Every configuration that the documentation shows is one that this version reads.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The blocks of a page that are in a language of configurations.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(language @ ("toml" | "json")) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
            found.push((language.to_owned(), block.join("\n")));
        }
    }
    found
}

#[test]
fn every_sample_is_read() {
    let mut all = vec![root().join("README.md")];
    files(&root().join("docs"), &mut all);
    let mut samples = Vec::new();
    for file in all {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        match file.extension().and_then(|ending| ending.to_str()) {
            Some("toml" | "json") => samples.push((file.display().to_string(), file.clone(), text)),
            Some("md") => {
                for (number, (language, block)) in blocks(&text).into_iter().enumerate() {
                    let name = format!("{} block {number}", file.display());
                    samples.push((name, PathBuf::from(format!("/etc/backstay/config.{language}")), block));
                }
            }
            _ => {}
        }
    }
    assert!(samples.len() >= 3, "the documentation shows configurations: {samples:?}");
    for (name, file, text) in samples {
        config::read_text(&file, &text).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
