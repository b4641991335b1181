//! For `cargo xtask coverage`: programs that tests start with an environment of their own count too.

use std::ffi::OsString;

/// The variable that says where a process puts its counters when it ends.
const VARIABLE: &str = "LLVM_PROFILE_FILE";

/// Returns the variable by which a process that is started now adds its counters to those of this test; none where nobody
/// counts.
pub fn counters() -> Option<(&'static str, OsString)> {
    std::env::var_os(VARIABLE).map(|value| (VARIABLE, value))
}

/// Returns the variable by which a process that is started now throws its counters away, for one whose files or system calls
/// are looked at; none where nobody counts.
pub fn no_counters() -> Option<(&'static str, &'static str)> {
    std::env::var_os(VARIABLE).map(|_| (VARIABLE, "/dev/null"))
}
