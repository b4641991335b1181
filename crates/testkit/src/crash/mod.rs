//! Power cuts, replayed: what a disk may hold after a cut at any point of a recorded list of file operations.
//!
//! That a process survives being killed proves nothing about durability: the kernel still holds what it wrote. Here
//! the operations are recorded ([`RecordedFiles`], or `strace` and [`parse_strace`]), applied one by one to a [`Disk`]
//! that knows what was made durable, and the outcome of a cut after each is put into a folder to be opened.

mod disk;
mod operation;
mod recorded;
mod strace;

pub use disk::{Disk, DiskError, Lost};
pub use operation::FileOperation;
pub use recorded::RecordedFiles;
pub use strace::{TRACED_CALLS, parse_strace};
