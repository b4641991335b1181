//! Cancellation: one flag that every long step looks at, and that wakes whoever waits.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The work was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Cancelled;

type Callback = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    cancelled: AtomicBool,
    next_id: AtomicU64,
    callbacks: Mutex<Vec<(u64, Callback)>>,
    wake: Condvar,
}

/// A request to stop that can be shared by any number of threads. Once cancelled it stays so.
#[derive(Clone, Default)]
pub struct Cancel(Arc<State>);

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cancel({})", self.is_cancelled())
    }
}

impl Cancel {
    /// Makes one that nobody has cancelled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the work to stop: wakes all that wait and runs each registered callback once.
    pub fn cancel(&self) {
        let callbacks = {
            let mut guard = self.0.callbacks.lock().unwrap_or_else(PoisonError::into_inner);
            self.0.cancelled.store(true, Ordering::SeqCst);
            self.0.wake.notify_all();
            std::mem::take(&mut *guard)
        };
        for (_, callback) in callbacks {
            callback();
        }
    }

    /// Tells whether the work was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    /// Fails once the work was asked to stop; to be called between pieces of work.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }

    /// Sleeps for that long, or until cancelled; tells whether it was cancelled.
    pub fn wait(&self, duration: Duration) -> bool {
        let deadline = Instant::now() + duration;
        let mut guard = self.0.callbacks.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.is_cancelled() {
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
            else {
                return false;
            };
            guard = self.0.wake.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Runs `callback` when cancelled (at once, if that has happened), unless the guard is dropped before.
    pub fn on_cancel(&self, callback: impl FnOnce() + Send + 'static) -> CancelGuard {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let mut guard = self.0.callbacks.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_cancelled() {
            drop(guard);
            callback();
        } else {
            guard.push((id, Box::new(callback)));
        }
        CancelGuard { cancel: self.clone(), id }
    }
}

/// Keeps a callback registered; dropping it takes the callback back.
#[must_use = "dropping it takes the callback back"]
#[derive(Debug)]
pub struct CancelGuard {
    cancel: Cancel,
    id: u64,
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        let mut guard = self.cancel.0.callbacks.lock().unwrap_or_else(PoisonError::into_inner);
        guard.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiter_wakes_at_once() {
        let cancel = Cancel::new();
        let other = cancel.clone();
        let started = Instant::now();
        let waiter = std::thread::spawn(move || other.wait(Duration::from_secs(30)));
        cancel.cancel();
        assert!(waiter.join().is_ok_and(|cancelled| cancelled));
        assert!(started.elapsed() < Duration::from_secs(10));
        assert_eq!(cancel.check(), Err(Cancelled));
    }

    #[test]
    fn callbacks_run_once_unless_taken_back() {
        let count = Arc::new(AtomicU64::new(0));
        let cancel = Cancel::new();
        let add = |number: u64| {
            let count = count.clone();
            move || {
                count.fetch_add(number, Ordering::SeqCst);
            }
        };
        let guard = cancel.on_cancel(add(1));
        drop(cancel.on_cancel(add(10)));
        cancel.cancel();
        cancel.cancel();
        let _late = cancel.on_cancel(add(100));
        drop(guard);
        assert_eq!(count.load(Ordering::SeqCst), 101);
    }
}
