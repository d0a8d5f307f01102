//! Writes files in a separate thread: a disk that hangs must not stop the agent, and failed writes are retried.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use zeroize::Zeroizing;

use super::StateDir;

/// How long a caller waits for the disk.
const PATIENCE: Duration = Duration::from_millis(300);
/// The pause before a failed write is retried.
const RETRY: Duration = Duration::from_secs(5);

type Content = Arc<Zeroizing<Vec<u8>>>;

#[derive(Debug, Default)]
pub(super) struct Later {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// The newest content of each file that isn't written yet.
    pending: BTreeMap<String, Pending>,
    /// The last error of each file that can't be written.
    troubles: BTreeMap<String, String>,
    number: u64,
    running: bool,
}

struct Pending {
    content: Content,
    number: u64,
    failed: Option<Instant>,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Later {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the outcome of a write.
    pub(super) fn note(&self, name: &str, error: Option<&io::Error>) {
        let mut queue = self.queue();
        match error {
            Some(error) => drop(queue.troubles.insert(name.to_owned(), error.to_string())),
            None => {
                if queue.troubles.remove(name).is_some() {
                    tracing::info!(file = name, "wrote a file that could not be written before");
                }
            }
        }
    }

    /// The last error of each file that can't be written.
    pub(super) fn troubles(&self) -> BTreeMap<String, String> {
        self.queue().troubles.clone()
    }
}

/// Passes a file's content to the thread and waits a moment for the write.
pub(super) fn write(state: &StateDir, name: &str, content: Zeroizing<Vec<u8>>) -> io::Result<()> {
    let later = &state.later;
    let deadline = Instant::now() + PATIENCE;
    let mut queue = later.queue();
    queue.number += 1;
    let number = queue.number;
    queue.pending.insert(name.to_owned(), Pending { content: Arc::new(content), number, failed: None });
    if !queue.running {
        let state = state.clone();
        thread::Builder::new().name("state".into()).spawn(move || run(&state))?;
        queue.running = true;
    }
    later.changed.notify_all();
    loop {
        match queue.pending.get(name) {
            Some(pending) if pending.number == number => {
                if pending.failed.is_some() {
                    let why = queue.troubles.get(name).cloned().unwrap_or_default();
                    return Err(io::Error::other(why));
                }
            }
            _ => return Ok(()),
        }
        let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
            let why = "the disk is slow";
            queue.troubles.entry(name.to_owned()).or_insert_with(|| why.to_owned());
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        };
        queue = later.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Writes pending files until no other handle to the state directory exists and nothing is pending.
fn run(state: &StateDir) {
    while let Some((name, content, number)) = next(state) {
        let written = state.replace(&name, |file| io::Write::write_all(file, &content));
        state.later.note(&name, written.as_ref().err());
        let left = *state.closed();
        let mut queue = state.later.queue();
        let is_newest = queue.pending.get(&name).is_some_and(|pending| pending.number == number);
        if is_newest && (written.is_ok() || left) {
            queue.pending.remove(&name);
        } else if is_newest && let Some(pending) = queue.pending.get_mut(&name) {
            pending.failed = Some(Instant::now());
        }
        drop(queue);
        state.later.changed.notify_all();
    }
}

fn next(state: &StateDir) -> Option<(String, Content, u64)> {
    let later = &state.later;
    let mut queue = later.queue();
    loop {
        let is_due = |pending: &Pending| pending.failed.is_none_or(|failed| failed.elapsed() >= RETRY);
        if let Some((name, pending)) = queue.pending.iter().find(|(_, pending)| is_due(pending)) {
            return Some((name.clone(), Arc::clone(&pending.content), pending.number));
        }
        // The last handle is this thread's own.
        if Arc::strong_count(later) == 1 {
            queue.running = false;
            return None;
        }
        queue = later.changed.wait_timeout(queue, RETRY).unwrap_or_else(PoisonError::into_inner).0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::Scratch;

    #[test]
    fn a_failed_write_is_reported_and_retried() {
        let scratch = Scratch::new("later");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        state.remember("x.json", &1).unwrap();
        // A directory of that name prevents the write.
        let obstacle = scratch.0.join("x.json.next");
        std::fs::create_dir(&obstacle).unwrap();
        state.remember("x.json", &2).unwrap_err();
        assert!(
            state.warnings().concat().contains("cannot write") && state.warnings().concat().contains("x.json"),
            "{:?}",
            state.warnings()
        );
        assert_eq!(state.read::<u8>("x.json").unwrap(), Some(1));
        std::fs::remove_dir(&obstacle).unwrap();
        // As if five seconds had passed.
        for pending in state.later.queue().pending.values_mut() {
            pending.failed = None;
        }
        state.later.changed.notify_all();
        while !state.warnings().is_empty() {
            thread::yield_now();
        }
        assert_eq!(state.read::<u8>("x.json").unwrap(), Some(2));
    }

    #[test]
    fn newer_content_replaces_pending_content() {
        let scratch = Scratch::new("newer");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        let obstacle = scratch.0.join("x.json.next");
        std::fs::create_dir(&obstacle).unwrap();
        state.remember("x.json", &1).unwrap_err();
        std::fs::remove_dir(&obstacle).unwrap();
        state.remember("x.json", &2).unwrap();
        assert_eq!(state.read::<u8>("x.json").unwrap(), Some(2));
        assert!(state.warnings().is_empty() && state.later.queue().pending.is_empty());
    }
}
