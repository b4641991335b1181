//! Where the password of a repository comes from: configuration, `BACKSTAY_PASSWORD`, `_FILE`, `_COMMAND`, then key
//! files, then a prompt. It is never shown, and never part of an argument list.

use crate::errors::{Failure, exit};
use crate::places::Places;
use crate::signals::Waiting;
use flow::{Environment, Secret, SecretRef};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Returns the password that the configuration or the environment gives, `None` where neither does.
pub(crate) fn given(
    configured: Option<&SecretRef>,
    environment: &Environment,
) -> Result<Option<Secret>, Failure> {
    if let Some(reference) = configured {
        return resolve(reference, environment).map(Some);
    }
    from_environment("BACKSTAY_PASSWORD", environment)
}

/// Returns the password that a variable gives, or the file or command that the variables named after it name.
pub(crate) fn from_environment(name: &str, environment: &Environment) -> Result<Option<Secret>, Failure> {
    if let Some(password) = environment.get(name) {
        return Ok(Some(Secret::new(password)));
    }
    if let Some(file) = environment.get(&format!("{name}_FILE")) {
        return from_file(Path::new(file)).map(Some);
    }
    if let Some(command) = environment.get(&format!("{name}_COMMAND")) {
        let shell = ["/bin/sh".to_owned(), "-c".to_owned(), command.to_owned()];
        return from_command(&shell).map(Some);
    }
    Ok(None)
}

fn resolve(reference: &SecretRef, environment: &Environment) -> Result<Secret, Failure> {
    match reference {
        SecretRef::File(file) => from_file(Path::new(file)),
        SecretRef::Command(command) => from_command(command),
        SecretRef::Variable(name) => environment.get(name).map(Secret::new).ok_or_else(|| {
            Failure::new(exit::WRONG_PASSWORD, format!("the variable {name} holds no password"))
        }),
    }
}

/// Reads a password file: its first line, as restic takes it too.
pub(crate) fn from_file(path: &Path) -> Result<Secret, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(exit::WRONG_PASSWORD, format!("the password file {} cannot be read", path.display()))
            .with_cause(&error)
            .with_hint("name another file, or give this user the right to read it")
    })?;
    first_line(&text).ok_or_else(|| {
        Failure::new(exit::WRONG_PASSWORD, format!("the password file {} is empty", path.display()))
            .with_hint("write the password in its first line")
    })
}

fn first_line(text: &str) -> Option<Secret> {
    text.lines().next().map(str::trim_end).filter(|line| !line.is_empty()).map(Secret::new)
}

/// Runs a command that prints the password. What it prints is never shown.
fn from_command(command: &[String]) -> Result<Secret, Failure> {
    let refuse = |message: String| {
        Failure::new(exit::WRONG_PASSWORD, message).with_hint("run the password command by hand to see why")
    };
    let Some((program, arguments)) = command.split_first() else {
        return Err(refuse("the password command is empty".to_owned()));
    };
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| {
            refuse(format!("the password command `{program}` cannot be run")).with_cause(&error)
        })?;
    if !output.status.success() {
        return Err(refuse(format!("the password command `{program}` failed: {}", output.status)));
    }
    first_line(&String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| refuse(format!("the password command `{program}` printed nothing")))
}

/// Asks for the password on the terminal. Without one there is nobody to ask: exit 12.
pub(crate) fn prompt(repository: &Path) -> Result<Secret, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            exit::WRONG_PASSWORD,
            format!("{}: no key on this machine opens the repository", repository.display()),
        )
        .with_hint("give its key file by BACKSTAY_PASSWORD_FILE, or its password by BACKSTAY_PASSWORD"));
    }
    let waiting = Waiting::begin();
    let answer = rpassword::prompt_password(format!("Password of {}: ", repository.display()));
    drop(waiting);
    answer.map(Secret::new).map_err(|error| {
        Failure::new(exit::WRONG_PASSWORD, "the password cannot be read from the terminal").with_cause(&error)
    })
}

/// Returns the key files of this user, the most likely one for a repository first. Ids are inside of repositories,
/// so that which key is whose shows only by trying; what was learnt is remembered.
pub(crate) fn key_files(places: &Places, repository: &Path) -> Vec<PathBuf> {
    let known = known(places).get(&text(repository)).map(|id| places.key_file(id));
    let Ok(folder) = std::fs::read_dir(places.keys()) else { return vec![] };
    let mut files: Vec<PathBuf> = folder
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "key"))
        .collect();
    files.sort_by_key(|path| (Some(path) != known.as_ref(), path.clone()));
    files
}

/// Remembers which repository lies where. Lost, it only costs time.
pub(crate) fn remember(places: &Places, repository: &Path, id: &str) {
    let mut known = known(places);
    if known.get(&text(repository)).is_some_and(|earlier| earlier == id) {
        return;
    }
    known.insert(text(repository), id.to_owned());
    let file = places.known_repositories();
    if let (Some(folder), Ok(content)) = (file.parent(), serde_json::to_vec_pretty(&known))
        && make_private_folder(folder).is_ok()
    {
        // A machine where this cannot be written tries all keys each time.
        let _ = storage::atomic_write(&file, &content, 0o600);
    }
}

fn known(places: &Places) -> BTreeMap<String, String> {
    std::fs::read(places.known_repositories())
        .ok()
        .and_then(|content| serde_json::from_slice(&content).ok())
        .unwrap_or_default()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Makes a folder and those above it, mode 0700.
pub(crate) fn make_private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Returns a new random key: 32 bytes as hexadecimal text.
pub(crate) fn new_key() -> Result<Secret, Failure> {
    random_hex::<32>().map(Secret::new)
}

/// Returns so many random bytes as hexadecimal text.
pub(crate) fn random_hex<const BYTES: usize>() -> Result<String, Failure> {
    let mut bytes = [0_u8; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new(exit::FAILED, format!("this machine gives no random bytes: {error}"))
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
