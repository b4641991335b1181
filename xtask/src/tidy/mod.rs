//! `cargo xtask tidy`: the house rules that no compiler holds. Each breach is told with file and line.

mod cycles;
mod docs;
mod manifests;
mod scrub;
mod source;

use crate::Failure;
use std::fmt;
use std::path::{Path, PathBuf};

/// A breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Breach {
    path: PathBuf,
    line: usize,
    message: String,
}

impl Breach {
    fn new(path: &Path, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.message)
    }
}

/// A text file of the checkout, its path relative to the root.
struct TextFile {
    path: PathBuf,
    text: String,
}

impl TextFile {
    fn has_extension(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|found| found == extension)
    }
}

/// Holds the checkout against the rules.
pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    let mut files = Vec::new();
    read_folder(root, Path::new(""), &mut files)
        .map_err(|error| format!("cannot read the checkout: {error}"))?;
    files.sort_by(|one, other| one.path.cmp(&other.path));
    let mut breaches = Vec::new();
    for file in &files {
        breaches.extend(source::check_words(&file.path, &file.text));
        if file.has_extension("rs") {
            breaches.extend(source::check(&file.path, &file.text));
        }
        if file.has_extension("md") {
            breaches.extend(docs::check(&file.path, &file.text, |target| root.join(target).exists()));
        }
        if file.path.ends_with("Cargo.toml") {
            breaches.extend(manifests::check(&file.path, &file.text));
        }
    }
    breaches.extend(cycles::check(&files));
    breaches.sort();
    for breach in &breaches {
        println!("{breach}");
    }
    match breaches.len() {
        0 => {
            println!("{} files are tidy.", files.len());
            Ok(())
        }
        count => Err(format!("{count} breaches of the house rules")),
    }
}

fn read_folder(root: &Path, folder: &Path, files: &mut Vec<TextFile>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        let path = folder.join(&name);
        if kind.is_dir() {
            if name != "target" && name != ".git" && name != ".cache" {
                read_folder(root, &path, files)?;
            }
        } else if kind.is_file()
            && name != "Cargo.lock"
            // In a second work tree it is a file that tells where the first one is.
            && name != ".git"
            && let Ok(text) = String::from_utf8(std::fs::read(entry.path())?)
        {
            files.push(TextFile { path, text });
        }
    }
    Ok(())
}
