//! File operations of a real process, from what `strace` wrote of it.
//!
//! Run it as `strace -f -y -xx -s 100000000 -e trace=`[`TRACED_CALLS`]` -o FILE COMMAND`: all threads, descriptors with
//! their paths, strings whole and in hexadecimal. Memory that is mapped and written is not seen (of SQLite's files
//! only `-shm`, which is never durable).

use super::{Disk, FileOperation};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The system calls to be traced.
pub const TRACED_CALLS: &str = "openat,open,creat,write,pwrite64,writev,pwritev,lseek,fsync,fdatasync,sync,syncfs,\
rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,ftruncate,truncate,fallocate,\
copy_file_range,sendfile,dup,dup2,dup3,fcntl";

/// Returns the operations on what is below the root of `disk`, which holds what was there before the process began.
/// Fails on a call that cannot be followed, with its line.
pub fn parse_strace(trace: &str, disk: &Disk) -> Result<Vec<FileOperation>, String> {
    let mut parser = Parser { disk: disk.clone(), offsets: HashMap::new(), operations: Vec::new() };
    let mut unfinished: HashMap<&str, String> = HashMap::new();
    for line in trace.lines() {
        let Some((process, rest)) = line.trim_start().split_once(' ') else { continue };
        let rest = rest.trim_start();
        let whole = if let Some(front) = rest.strip_suffix("<unfinished ...>") {
            unfinished.insert(process, front.to_owned());
            continue;
        } else if let Some(resumed) = rest.strip_prefix("<... ") {
            let Some((_, back)) = resumed.split_once("resumed>") else { continue };
            let Some(front) = unfinished.remove(process) else { continue };
            format!("{front}{back}")
        } else {
            rest.to_owned()
        };
        if let Some(call) = Call::parse(&whole) {
            parser.follow(&call).map_err(|problem| format!("{problem}\n  in: {:.300}", whole))?;
        }
    }
    Ok(parser.operations)
}

/// A system call that succeeded.
struct Call {
    name: String,
    arguments: Vec<String>,
    result: u64,
    result_path: Option<PathBuf>,
}

impl Call {
    fn parse(line: &str) -> Option<Self> {
        let (name, rest) = line.split_once('(')?;
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let (arguments, result) = rest.rsplit_once(") = ").or_else(|| {
            // Short calls are padded before the equals sign.
            let (front, result) = rest.rsplit_once("= ")?;
            Some((front.trim_end().strip_suffix(')')?, result))
        })?;
        let digits = result.split(|c: char| !c.is_ascii_digit()).next()?;
        Some(Self {
            name: is_name.then(|| name.to_owned())?,
            arguments: split(arguments.trim_end().trim_end_matches(')')),
            result: digits.parse().ok()?,
            result_path: annotation(result),
        })
    }

    fn argument(&self, place: usize) -> Result<&str, String> {
        self.arguments
            .get(place)
            .map(String::as_str)
            .ok_or_else(|| format!("{} has no argument {place}", self.name))
    }

    fn number(&self, place: usize) -> Result<u64, String> {
        let text = self.argument(place)?;
        number(text).ok_or_else(|| format!("{text} is no number"))
    }

    /// Returns the descriptor and the path of it.
    fn file(&self, place: usize) -> Result<(u64, PathBuf), String> {
        let text = self.argument(place)?;
        let descriptor = number(text.split('<').next().unwrap_or_default());
        let path = annotation(text).unwrap_or_default();
        Ok((descriptor.ok_or_else(|| format!("{text} is no descriptor"))?, path))
    }

    /// Returns the path in a string argument; with a folder's descriptor before it where there is one.
    fn path(&self, place: usize, folder: Option<usize>) -> Result<PathBuf, String> {
        let path = PathBuf::from(String::from_utf8_lossy(&unquote(self.argument(place)?)).into_owned());
        let base = match folder {
            Some(place) => annotation(self.argument(place)?),
            None => None,
        };
        match base {
            Some(base) => Ok(base.join(path)),
            None if path.is_absolute() => Ok(path),
            None => Err(format!("{} is relative to an unknown folder", path.display())),
        }
    }
}

#[derive(Clone, Copy)]
struct Open {
    position: u64,
    append: bool,
}

struct Parser {
    disk: Disk,
    /// Positions by descriptor and path: two processes may have the same descriptor, but seldom on the same file.
    offsets: HashMap<(u64, PathBuf), Open>,
    operations: Vec<FileOperation>,
}

impl Parser {
    fn follow(&mut self, call: &Call) -> Result<(), String> {
        match call.name.as_str() {
            "openat" => self.open(call, call.argument(2)?),
            "open" => self.open(call, call.argument(1)?),
            "creat" => self.open(call, "O_CREAT|O_TRUNC"),
            "write" | "writev" => self.write(call, None),
            "pwrite64" => self.write(call, Some(call.number(3)?)),
            "pwritev" => self.write(call, Some(call.number(3)?)),
            "lseek" => self.seek(call),
            "dup" | "dup2" | "dup3" => self.duplicate(call),
            "fcntl" if call.argument(1)?.starts_with("F_DUPFD") => self.duplicate(call),
            "fsync" | "fdatasync" => self.sync(&call.file(0)?.1),
            "sync" | "syncfs" => self.add(FileOperation::SyncAll),
            "rename" => self.rename(call.path(0, None)?, call.path(1, None)?, ""),
            "renameat" => self.rename(call.path(1, Some(0))?, call.path(3, Some(2))?, ""),
            "renameat2" => self.rename(call.path(1, Some(0))?, call.path(3, Some(2))?, call.argument(4)?),
            "link" => self.add(FileOperation::Link { from: call.path(0, None)?, to: call.path(1, None)? }),
            "linkat" => {
                let (from, to) = (call.path(1, Some(0))?, call.path(3, Some(2))?);
                self.add(FileOperation::Link { from, to })
            }
            "unlink" | "rmdir" => self.add(FileOperation::Remove { path: call.path(0, None)? }),
            "unlinkat" => self.add(FileOperation::Remove { path: call.path(1, Some(0))? }),
            "mkdir" => self.add(FileOperation::MakeFolder { path: call.path(0, None)? }),
            "mkdirat" => self.add(FileOperation::MakeFolder { path: call.path(1, Some(0))? }),
            "ftruncate" => self.truncate(call.file(0)?.1, call.number(1)?),
            "truncate" => self.truncate(call.path(0, None)?, call.number(1)?),
            "fallocate" => self.allocate(call),
            "copy_file_range" => self.copy(call, (0, 1), (2, 3)),
            "sendfile" => self.copy(call, (1, 2), (0, usize::MAX)),
            _ => Ok(()),
        }
    }

    fn add(&mut self, operation: FileOperation) -> Result<(), String> {
        let outside = !matches!(operation, FileOperation::SyncAll)
            && !operation.paths().iter().any(|path| self.disk.covers(path));
        if outside {
            return Ok(());
        }
        self.disk.apply(&operation).map_err(|error| error.to_string())?;
        self.operations.push(operation);
        Ok(())
    }

    fn open(&mut self, call: &Call, flags: &str) -> Result<(), String> {
        let Some(path) = call.result_path.clone().filter(|path| self.disk.covers(path)) else {
            return Ok(());
        };
        let has = |flag: &str| flags.split('|').any(|found| found == flag);
        if has("O_TMPFILE") {
            return Err("a file without a name".to_owned());
        }
        if has("O_CREAT") && !self.disk.holds(&path) {
            self.add(FileOperation::Create { path: path.clone() })?;
        } else if has("O_TRUNC") {
            self.add(FileOperation::Truncate { path: path.clone(), size_bytes: 0 })?;
        }
        self.offsets.insert((call.result, path), Open { position: 0, append: has("O_APPEND") });
        Ok(())
    }

    fn write(&mut self, call: &Call, offset: Option<u64>) -> Result<(), String> {
        let (descriptor, path) = call.file(0)?;
        if !self.disk.covers(&path) || !self.disk.holds(&path) {
            // Elsewhere, or a file whose name is gone: nobody will find it after a cut.
            return Ok(());
        }
        let mut bytes = strings(call.argument(1)?);
        let written = usize::try_from(call.result).map_err(|error| error.to_string())?;
        if bytes.len() < written {
            return Err(format!("{written} bytes were written, the trace holds {}", bytes.len()));
        }
        bytes.truncate(written);
        let offset = match offset {
            Some(offset) => offset,
            None => self.advance(descriptor, &path, call.result),
        };
        self.add(FileOperation::Write { path, offset, bytes })
    }

    /// Moves the position of a descriptor on and returns where it was.
    fn advance(&mut self, descriptor: u64, path: &Path, count: u64) -> u64 {
        let size_bytes = self.disk.read(path).map_or(0, <[u8]>::len) as u64;
        let open =
            self.offsets.entry((descriptor, path.to_owned())).or_insert(Open { position: 0, append: false });
        let start = if open.append { size_bytes } else { open.position };
        open.position = start + count;
        start
    }

    fn seek(&mut self, call: &Call) -> Result<(), String> {
        let key = call.file(0)?;
        if self.disk.covers(&key.1) {
            let open = self.offsets.entry(key).or_insert(Open { position: 0, append: false });
            open.position = call.result;
        }
        Ok(())
    }

    fn duplicate(&mut self, call: &Call) -> Result<(), String> {
        let (descriptor, path) = call.file(0)?;
        if let Some(open) = self.offsets.get(&(descriptor, path.clone())).copied() {
            self.offsets.insert((call.result, path), open);
        }
        Ok(())
    }

    fn sync(&mut self, path: &Path) -> Result<(), String> {
        if !self.disk.covers(path) || !self.disk.holds(path) {
            return Ok(());
        }
        let path = path.to_owned();
        let is_file = self.disk.read(&path).is_some();
        self.add(if is_file { FileOperation::Sync { path } } else { FileOperation::SyncFolder { path } })
    }

    fn rename(&mut self, from: PathBuf, to: PathBuf, flags: &str) -> Result<(), String> {
        if flags.contains("RENAME_EXCHANGE") {
            return self.add(FileOperation::Exchange { one: from, other: to });
        }
        let open: Vec<(u64, PathBuf)> =
            self.offsets.keys().filter(|(_, path)| *path == from).cloned().collect();
        for key in open {
            if let Some(position) = self.offsets.remove(&key) {
                self.offsets.insert((key.0, to.clone()), position);
            }
        }
        self.add(FileOperation::Rename { from, to })
    }

    fn truncate(&mut self, path: PathBuf, size_bytes: u64) -> Result<(), String> {
        if self.disk.holds(&path) { self.add(FileOperation::Truncate { path, size_bytes }) } else { Ok(()) }
    }

    fn allocate(&mut self, call: &Call) -> Result<(), String> {
        let path = call.file(0)?.1;
        let end = call.number(2)? + call.number(3)?;
        match call.argument(1)? {
            _ if !self.disk.covers(&path) => Ok(()),
            "0" if self.disk.read(&path).is_some_and(|content| (content.len() as u64) < end) => {
                self.truncate(path, end)
            }
            "0" | "FALLOC_FL_KEEP_SIZE" => Ok(()),
            mode => Err(format!("fallocate with {mode}")),
        }
    }

    /// Follows a copy within the kernel; `from` and `to` are the places of a descriptor and of its position.
    fn copy(&mut self, call: &Call, from: (usize, usize), to: (usize, usize)) -> Result<(), String> {
        let ((source_descriptor, source), (descriptor, path)) = (call.file(from.0)?, call.file(to.0)?);
        if !self.disk.holds(&path) || call.result == 0 {
            return Ok(());
        }
        let position = |place: usize| {
            let text = call.arguments.get(place).map(|text| text.trim_matches(['[', ']'])).unwrap_or("NULL");
            number(text.split(" =>").next().unwrap_or_default())
        };
        let start = match position(from.1) {
            Some(start) => start,
            None => self.advance(source_descriptor, &source, call.result),
        };
        let content = match self.disk.read(&source) {
            Some(content) => content.to_vec(),
            None => std::fs::read(&source).map_err(|error| format!("{}: {error}", source.display()))?,
        };
        let range = start as usize..(start + call.result) as usize;
        let bytes =
            content.get(range).ok_or_else(|| format!("{} is shorter now", source.display()))?.to_vec();
        let offset = match position(to.1) {
            Some(offset) => offset,
            None => self.advance(descriptor, &path, call.result),
        };
        self.add(FileOperation::Write { path, offset, bytes })
    }
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Splits arguments at commas outside of strings, brackets and paths.
fn split(arguments: &str) -> Vec<String> {
    let (mut parts, mut current, mut depth) = (Vec::new(), String::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for c in arguments.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '[' | '{' | '<' if !quoted => depth += 1,
            ']' | '}' | '>' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                parts.push(std::mem::take(&mut current).trim().to_owned());
                continue;
            }
            _ => {}
        }
        current.push(c);
    }
    parts.push(current.trim().to_owned());
    parts
}

/// Returns the path that `-y` adds to a descriptor. That of a removed file has no such name any more.
fn annotation(text: &str) -> Option<PathBuf> {
    let start = text.find('<')?;
    let path = text[start + 1..].split('>').next()?;
    Some(PathBuf::from(String::from_utf8_lossy(&unescape(path)).into_owned()))
}

fn unquote(text: &str) -> Vec<u8> {
    unescape(text.trim().trim_start_matches('"').trim_end_matches('"'))
}

/// Returns the bytes of all strings in an argument, one after the other.
fn strings(argument: &str) -> Vec<u8> {
    let (mut bytes, mut start, mut escaped) = (Vec::new(), None, false);
    for (at, c) in argument.char_indices() {
        match (c, start) {
            _ if escaped => escaped = false,
            ('\\', _) => escaped = true,
            ('"', None) => start = Some(at + 1),
            ('"', Some(begin)) => {
                bytes.extend(unescape(&argument[begin..at]));
                start = None;
            }
            _ => {}
        }
    }
    bytes
}

/// Returns the bytes of a string as strace writes it: hexadecimal, octal and named escapes.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4);
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let octal = rest.iter().take(3).take_while(|digit| (b'0'..=b'7').contains(digit)).count();
        let (value, length) = match rest.first() {
            Some(b'x') => (radix(&rest[1..rest.len().min(3)], 16), 3),
            _ if octal > 0 => (radix(&rest[..octal], 8), octal),
            Some(b'n') => (Some(b'\n'), 1),
            Some(b't') => (Some(b'\t'), 1),
            Some(b'r') => (Some(b'\r'), 1),
            Some(b'v') => (Some(11), 1),
            Some(b'f') => (Some(12), 1),
            other => (other.copied(), 1),
        };
        bytes.extend(value);
        rest = &rest[length.min(rest.len())..];
    }
    bytes
}

fn radix(digits: &[u8], radix: u32) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_paths_are_read_back() {
        assert_eq!(unescape("\\x61\\x00b\\n\\0\\377\\\""), b"a\x00b\n\x00\xff\"");
        assert_eq!(strings("[{iov_base=\"\\x61\", iov_len=1}, {iov_base=\"b\", iov_len=1}]"), b"ab");
        assert_eq!(split("3</a,b>, \"x,\\\"y\", [1, 2], NULL"), ["3</a,b>", "\"x,\\\"y\"", "[1, 2]", "NULL"]);
        assert_eq!(annotation("7<\\x2f\\x61>"), Some(PathBuf::from("/a")));
    }

    #[test]
    fn failed_and_padded_calls_are_told_apart() {
        assert!(Call::parse("unlink(\"/a\") = -1 ENOENT (No such file or directory)").is_none());
        assert!(Call::parse("+++ exited with 0 +++").is_none());
        let call = Call::parse("fsync(3</a>)                            = 0");
        assert_eq!(
            call.map(|call| (call.name, call.arguments)),
            Some(("fsync".into(), vec!["3</a>".into()]))
        );
    }
}
