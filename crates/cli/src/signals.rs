//! Interruptions: the first SIGINT, SIGTERM or SIGHUP asks the work to end cleanly, the second ends the program at
//! once. While the program waits for an answer nothing has begun, so the first ends it too.

use crate::errors::exit;
use flow::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

static WAITING_FOR_AN_ANSWER: AtomicBool = AtomicBool::new(false);

/// Begins to listen, on a thread of its own for as long as the program runs.
pub(crate) fn listen(cancel: Cancel) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            if cancel.is_cancelled() || WAITING_FOR_AN_ANSWER.load(Ordering::SeqCst) {
                end();
            }
            let _ = writeln!(
                std::io::stderr().lock(),
                "Interrupted; ending cleanly. A second signal ends at once."
            );
            cancel.cancel();
        }
    })?;
    Ok(())
}

/// Marks that the program waits for a person, until the value is dropped.
pub(crate) struct Waiting;

impl Waiting {
    pub(crate) fn begin() -> Self {
        WAITING_FOR_AN_ANSWER.store(true, Ordering::SeqCst);
        Self
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING_FOR_AN_ANSWER.store(false, Ordering::SeqCst);
    }
}

#[allow(clippy::exit, reason = "the person asked twice, or nothing has begun")]
fn end() -> ! {
    std::process::exit(i32::from(exit::INTERRUPTED))
}
