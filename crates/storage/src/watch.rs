//! Calls that may hang: a disk that went away, a network file system without its server.
//!
//! A call runs on a thread of its own, and whoever asked waits for it. Where no answer comes, that is told; where the
//! work is interrupted meanwhile, whoever waits gives up, and the thread is left to the system. What such a call was to
//! do may still happen, or not: nothing may be taken for done.

use crate::{StorageError, StorageErrorKind};
use flow::{Cancel, Event, Observer, Stall};
use rustix::process::getpriority_process;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long calls may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchOptions {
    /// A call without an answer for so long is told of; again after twice that time, four times, and so on.
    pub stalled_after: Duration,
    /// So long is waited for the call that is under way when the work is interrupted.
    pub patience: Duration,
    /// So long is waited for each call of the way out, once one was given up.
    pub last_patience: Duration,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            stalled_after: Duration::from_secs(30),
            patience: Duration::from_secs(1),
            last_patience: Duration::from_millis(150),
        }
    }
}

/// How soon an interruption is noticed by whoever waits for a call.
const TICK: Duration = Duration::from_millis(50);

/// A call; what it returns gives the answer, once its thread is free for the next one.
type Job = Box<dyn FnOnce() -> Box<dyn FnOnce()> + Send>;
/// Threads that wait for work, by their niceness: one that stepped back does not work for one that did not.
type Threads = BTreeMap<i32, Vec<Sender<Work>>>;

/// A call for a thread, and the way to give it the next one.
struct Work {
    job: Job,
    thread: Sender<Work>,
}

/// Runs calls that may hang. Shared by all that work for one run.
pub struct Watch {
    cancel: Cancel,
    observer: Arc<dyn Observer>,
    options: WatchOptions,
    idle: Arc<Mutex<Threads>>,
    gave_up: AtomicBool,
}

impl Watch {
    /// Watches calls for as long as the work is not interrupted by `cancel`, and tells `observer` of those that hang.
    pub fn new(cancel: Cancel, observer: Arc<dyn Observer>, options: WatchOptions) -> Self {
        Self { cancel, observer, options, idle: Arc::default(), gave_up: AtomicBool::new(false) }
    }

    /// Runs a call and returns what it returns, or fails ([`StorageErrorKind::Interrupted`]) where the work is
    /// interrupted before it has an answer. After an interruption calls still run, so that locks can be removed, but
    /// are not waited for long.
    pub fn run<T: Send + 'static>(
        &self,
        verb: &'static str,
        object: &str,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StorageError> {
        let (reply, answer) = channel();
        let job: Job = Box::new(move || {
            let result = call();
            Box::new(move || drop(reply.send(result)))
        });
        let fail = |kind, message: &str| StorageError {
            kind,
            verb,
            object: object.to_owned(),
            message: message.to_owned(),
            source: None,
        };
        if !self.hand_over(job) {
            return Err(fail(StorageErrorKind::Failed, "no thread can be started"));
        }
        let began = Instant::now();
        let mut tell_after = self.options.stalled_after;
        let mut told = false;
        let mut end: Option<Instant> = None;
        let tell = |over: bool| {
            let stall = Stall { verb, object: object.to_owned(), waited: began.elapsed(), over };
            self.observer.event(Event::Stall(stall));
        };
        loop {
            match answer.recv_timeout(TICK.min(self.options.stalled_after)) {
                Ok(result) => {
                    if told {
                        tell(true);
                    }
                    return Ok(result);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(fail(StorageErrorKind::Failed, "the call panicked"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.cancel.is_cancelled() {
                if Instant::now() >= *end.get_or_insert_with(|| Instant::now() + self.patience(told)) {
                    self.gave_up.store(true, Ordering::Relaxed);
                    let message = "interrupted while it gave no answer; whether it is done cannot be told";
                    return Err(fail(StorageErrorKind::Interrupted, message));
                }
            } else if began.elapsed() >= tell_after {
                tell(false);
                told = true;
                tell_after *= 2;
            }
        }
    }

    fn patience(&self, told: bool) -> Duration {
        let is_lost = told || self.gave_up.load(Ordering::Relaxed);
        if is_lost { self.options.last_patience } else { self.options.patience }
    }

    /// Gives work to a thread that waits, or to a new one; false where none can be started.
    fn hand_over(&self, mut job: Job) -> bool {
        let niceness = getpriority_process(None).unwrap_or(0);
        while let Some(thread) = lock(&self.idle).get_mut(&niceness).and_then(Vec::pop) {
            match thread.send(Work { job, thread: thread.clone() }) {
                Ok(()) => return true,
                // It panicked in its last call.
                Err(lost) => job = lost.0.job,
            }
        }
        let (thread, work) = channel::<Work>();
        if thread.send(Work { job, thread: thread.clone() }).is_err() {
            return false;
        }
        drop(thread);
        let idle = Arc::downgrade(&self.idle);
        let begun = std::thread::Builder::new().name("storage".to_owned()).spawn(move || {
            // It holds no sender to itself while it waits: without the watch there is none, and it ends.
            while let Ok(Work { job, thread }) = work.recv() {
                let answer = job();
                if let Some(idle) = idle.upgrade() {
                    lock(&idle).entry(niceness).or_default().push(thread);
                }
                answer();
            }
        });
        begun.is_ok()
    }
}

fn lock(idle: &Mutex<Threads>) -> MutexGuard<'_, Threads> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}
