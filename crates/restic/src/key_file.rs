//! Key files: the repository's master key, sealed with a key derived from a password by scrypt.
//!
//! What a key file asks for is bounded before anything is computed: it is not authenticated yet.

use crate::crypto::{SealingKey, random};
use crate::error::{ResticError, ResticErrorKind};
use crate::quoting::to_go_json;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flow::Secret;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What new key files ask for: 32 MiB of memory, and as many passes as take half a second of one processor. That is what
/// restic calibrates itself to. It never goes below a pass of half the memory, ours never below one of all of it.
const LOG_N: u8 = 15;
const R: u32 = 8;
const PASSES_MAX: u32 = 8;
const TARGET: Duration = Duration::from_millis(500);

/// Passes that are computed at once take no more memory than that together, unless one alone does.
const LANES_BYTES_MAX: u64 = 96 << 20;

/// The most that a key file may ask for: memory, and memory times passes.
const MEMORY_BYTES_MAX: u64 = 1 << 30;
const WORK_BYTES_MAX: u64 = 1 << 33;

#[derive(Serialize, Deserialize)]
struct KeyFile {
    created: Timestamp,
    username: String,
    hostname: String,
    kdf: String,
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
    salt: String,
    data: String,
}

#[derive(Serialize, Deserialize)]
struct MasterKeyJson {
    mac: MacKeyJson,
    encrypt: String,
}

#[derive(Serialize, Deserialize)]
struct MacKeyJson {
    k: String,
    r: String,
}

/// Why a key file does not open.
pub(crate) enum KeyProblem {
    /// It is in order, as far as that can be told, but belongs to another password.
    Password,
    /// It is no key file.
    Damaged(String),
    /// It asks for what this program will not do.
    Unsupported(String),
}

/// What a key file says of itself, which is not authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyLabel {
    pub(crate) created: Timestamp,
    pub(crate) user: String,
    pub(crate) host: String,
}

/// Reads what a key file says of itself; `None` where it is no key file.
pub(crate) fn label(file: &[u8]) -> Option<KeyLabel> {
    let file: KeyFile = serde_json::from_slice(file).ok()?;
    Some(KeyLabel { created: file.created, user: file.username, host: file.hostname })
}

/// Makes a master key and the key file that opens it with the password.
pub(crate) fn create(
    password: &Secret,
    user: &str,
    host: &str,
    passes: Option<u32>,
) -> Result<(SealingKey, Vec<u8>), ResticError> {
    let mut master = [0; 64];
    random(&mut master)?;
    mask(&mut master);
    let master = SealingKey::new(&master);
    let file = seal(&master, password, user, host, passes)?;
    Ok((master, file))
}

/// Makes a key file that opens a master key with the password.
pub(crate) fn seal(
    master: &SealingKey,
    password: &Secret,
    user: &str,
    host: &str,
    passes: Option<u32>,
) -> Result<Vec<u8>, ResticError> {
    let master = master.bytes();
    let json = to_go_json(&MasterKeyJson {
        mac: MacKeyJson { k: STANDARD.encode(&master[32..48]), r: STANDARD.encode(&master[48..]) },
        encrypt: STANDARD.encode(&master[..32]),
    })?;
    let mut salt = [0; 64];
    random(&mut salt)?;
    let fail = |message: String| ResticError::new(ResticErrorKind::Failed, "key file", message);
    let passes = match passes {
        Some(passes) => passes,
        None => calibrate().map_err(fail)?,
    };
    let derived = derive(password, &salt, 1 << LOG_N, R, passes).map_err(fail)?;
    to_go_json(&KeyFile {
        created: Timestamp::now(),
        username: user.to_owned(),
        hostname: host.to_owned(),
        kdf: "scrypt".to_owned(),
        n: 1 << LOG_N,
        r: R,
        p: passes,
        salt: STANDARD.encode(salt),
        data: STANDARD.encode(derived.seal(&json)?),
    })
}

/// Opens a key file.
pub(crate) fn open(file: &[u8], password: &Secret) -> Result<SealingKey, KeyProblem> {
    let damaged = |problem: &str| KeyProblem::Damaged(problem.to_owned());
    let file: KeyFile = serde_json::from_slice(file).map_err(|_| damaged("is not the JSON of a key"))?;
    if file.kdf != "scrypt" {
        return Err(KeyProblem::Unsupported(format!("asks for the key derivation {:?}", file.kdf)));
    }
    let salt = STANDARD.decode(&file.salt).map_err(|_| damaged("has a salt that is not base64"))?;
    let data = STANDARD.decode(&file.data).map_err(|_| damaged("has data that are not base64"))?;
    let derived = derive(password, &salt, file.n, file.r, file.p).map_err(KeyProblem::Unsupported)?;
    let json = derived.open(data).map_err(|_| KeyProblem::Password)?;
    let master: MasterKeyJson = serde_json::from_slice(&json).map_err(|_| damaged("holds no master key"))?;
    let parts = [&master.encrypt, &master.mac.k, &master.mac.r].map(|part| STANDARD.decode(part));
    let [Ok(encrypt), Ok(k), Ok(r)] = parts else {
        return Err(damaged("holds a master key that is not base64"));
    };
    let key: [u8; 64] =
        [encrypt, k, r].concat().try_into().map_err(|_| damaged("holds a master key of a wrong length"))?;
    if key[..32].iter().all(|b| *b == 0) || key[32..].iter().all(|b| *b == 0) {
        return Err(damaged("holds an empty master key"));
    }
    Ok(SealingKey::new(&key))
}

/// Returns how many passes a new key asks for: by the processor time that one of them takes, so that a machine that is busy
/// with something else chooses no weaker key. The faster one of two counts: the first one finds its memory cold.
fn calibrate() -> Result<u32, String> {
    let mut fastest = Duration::MAX;
    for _ in 0..2 {
        fastest = fastest.min(in_lanes(1, one_pass)?.ok_or("cannot be derived")?);
    }
    Ok(passes_for(fastest))
}

/// Derives a key by one pass on this thread, and returns how long the processor worked for it.
fn one_pass() -> Option<Duration> {
    let begin = processor_time();
    scrypt::scrypt(b"calibration", &[0; 64], &params(LOG_N, R, 1)?, &mut [0; 64]).ok()?;
    Some(processor_time().saturating_sub(begin))
}

fn passes_for(one_pass: Duration) -> u32 {
    let passes = TARGET.as_micros() / one_pass.as_micros().max(1);
    u32::try_from(passes).unwrap_or(PASSES_MAX).clamp(1, PASSES_MAX)
}

/// Returns how long the processors worked for this thread so far.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let (seconds, nanos) =
        (u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0));
    Duration::new(seconds, nanos)
}

fn params(log_n: u8, r: u32, p: u32) -> Option<scrypt::Params> {
    scrypt::Params::new(log_n, r, p).ok()
}

/// Does the work on threads of its own, so many at most.
fn in_lanes<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> Result<T, String> {
    let lanes = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|number| format!("derive-{number}"))
        .build()
        .map_err(|error| format!("cannot be opened, since no thread can be started: {error}"))?;
    Ok(lanes.install(work))
}

/// Derives a key. The passes do not depend on each other and are computed side by side: whoever guesses has to do as
/// much work for each guess as before, and whoever knows waits less.
fn derive(password: &Secret, salt: &[u8], n: u64, r: u32, p: u32) -> Result<SealingKey, String> {
    let pass_bytes = n.checked_mul(u64::from(r)).and_then(|nr| nr.checked_mul(128));
    let work = pass_bytes.and_then(|bytes| bytes.checked_mul(u64::from(p)));
    let bounded = n.is_power_of_two()
        && n > 1
        && pass_bytes.is_some_and(|bytes| bytes <= MEMORY_BYTES_MAX)
        && work.is_some_and(|work| (1..=WORK_BYTES_MAX).contains(&work));
    let refusal = || format!("asks for scrypt with N={n}, r={r}, p={p}, beyond what is allowed");
    if !bounded {
        return Err(refusal());
    }
    let log_n = u8::try_from(n.ilog2()).map_err(|_| refusal())?;
    let params = params(log_n, r, p).ok_or_else(refusal)?;
    let mut key = [0; 64];
    let threads = lanes(pass_bytes.unwrap_or(MEMORY_BYTES_MAX), p);
    in_lanes(threads, || scrypt::scrypt(password.expose().as_bytes(), salt, &params, &mut key))?
        .map_err(|_| refusal())?;
    Ok(SealingKey::new(&key))
}

/// Returns how many passes are computed at once: what the processors and the memory allow.
fn lanes(pass_bytes: u64, passes: u32) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let by_memory = usize::try_from(LANES_BYTES_MAX / pass_bytes.max(1)).unwrap_or(usize::MAX);
    processors.min(by_memory).min(usize::try_from(passes).unwrap_or(usize::MAX)).max(1)
}

/// Clears the bits of r that Poly1305 does not use, as restic does before it stores a key.
fn mask(key: &mut [u8; 64]) {
    for at in [3, 7, 11, 15] {
        key[48 + at] &= 15;
    }
    for at in [4, 8, 12] {
        key[48 + at] &= 252;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_opens_with_its_password_alone() {
        let (master, file) = create(&Secret::new("geheim"), "u", "h", Some(1)).unwrap();
        let opened = open(&file, &Secret::new("geheim")).ok().unwrap();
        assert_eq!(opened.open(master.seal(b"text").unwrap()).unwrap(), b"text");
        assert!(matches!(open(&file, &Secret::new("Geheim")), Err(KeyProblem::Password)));
        assert!(matches!(open(&file[1..], &Secret::new("geheim")), Err(KeyProblem::Damaged(_))));
    }

    #[test]
    fn a_key_is_derived_as_the_standard_says_in_one_lane_or_many() {
        // RFC 7914, section 12: sixteen passes, of which several run at once where there are processors.
        let key = derive(&Secret::new("password"), b"NaCl", 1024, 8, 16).unwrap();
        let expected = "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162\
                        2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640";
        assert_eq!(hex::encode(key.bytes()), expected);
    }

    #[test]
    fn the_slower_a_pass_the_fewer_there_are_and_never_none() {
        let passes = |millis| passes_for(Duration::from_millis(millis));
        assert_eq!([passes(0), passes(50), passes(70), passes(250), passes(3000)], [PASSES_MAX, 8, 7, 2, 1]);
    }

    #[test]
    fn time_in_which_others_have_the_processor_does_not_count() {
        let begin = processor_time();
        std::thread::sleep(Duration::from_millis(200));
        assert!(processor_time().saturating_sub(begin) < Duration::from_millis(100));
        let passes = calibrate().unwrap();
        assert!((1..=PASSES_MAX).contains(&passes), "{passes}");
    }

    #[test]
    fn passes_that_run_at_once_stay_within_their_memory() {
        assert_eq!(lanes(MEMORY_BYTES_MAX, 8), 1);
        assert_eq!(lanes(1 << 20, 1), 1);
        assert!((lanes(32 << 20, 8) as u64) << 25 <= LANES_BYTES_MAX);
    }

    #[test]
    fn greedy_key_files_are_refused_before_they_cost_anything() {
        let ask = |n: u64, r: u32, p: u32| {
            let file = KeyFile {
                created: Timestamp::UNIX_EPOCH,
                username: String::new(),
                hostname: String::new(),
                kdf: "scrypt".to_owned(),
                n,
                r,
                p,
                salt: String::new(),
                data: String::new(),
            };
            open(&serde_json::to_vec(&file).unwrap(), &Secret::new("x"))
        };
        for (n, r, p) in [
            (1 << 40, 8, 1),
            (u64::MAX, 8, 1),
            (1 << 63, u32::MAX, u32::MAX),
            (1 << 15, 8, u32::MAX),
            (1 << 15, u32::MAX, 1),
            (0, 8, 1),
            (1, 8, 1),
            (3, 8, 1),
            (1 << 15, 0, 1),
            (1 << 15, 8, 0),
        ] {
            assert!(matches!(ask(n, r, p), Err(KeyProblem::Unsupported(_))), "{n} {r} {p}");
        }
        assert!(matches!(ask(2, 1, 1), Err(KeyProblem::Password)), "one within bounds is tried");
    }
}
