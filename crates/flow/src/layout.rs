//! How the bytes of an entry are laid out, which decides where a repository cuts them.

use serde::{Deserialize, Serialize};

/// How the bytes of an entry are laid out, which decides where they are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Pages of a fixed size that change in place. Cut at multiples of `cut_bytes`; each part but the last of an
    /// entry is a multiple of it.
    Pages {
        /// Size of a page.
        page_bytes: u32,
        /// Distance of the cuts, a multiple of `page_bytes`.
        cut_bytes: u32,
    },
    /// Rows, of which some come, go and change. Cut where the content says so.
    Rows,
    /// Anything else. Cut where the content says so.
    Opaque,
}
