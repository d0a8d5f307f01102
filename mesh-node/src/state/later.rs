//! What is written by a thread of its own: a disk that hangs must not stop the agent, and what fails is tried again.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use zeroize::Zeroizing;

use super::StateDir;

/// How long whoever remembers something waits for the disk.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(5);

type Content = Arc<Zeroizing<Vec<u8>>>;

#[derive(Debug, Default)]
pub(super) struct Later {
    desk: Mutex<Desk>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Desk {
    /// The newest content of each file that is not written yet.
    pending: BTreeMap<String, Pending>,
    /// What is wrong with which file.
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
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how writing a file went.
    pub(super) fn note(&self, name: &str, error: Option<&io::Error>) {
        let mut desk = self.desk();
        match error {
            Some(error) => drop(desk.troubles.insert(name.to_owned(), error.to_string())),
            None => {
                if desk.troubles.remove(name).is_some() {
                    tracing::info!(file = name, "what could not be written to the state directory is written now");
                }
            }
        }
    }

    /// What is wrong with which file.
    pub(super) fn troubles(&self) -> BTreeMap<String, String> {
        self.desk().troubles.clone()
    }
}

/// Hands the content of a file to the thread, and waits a moment until it is written.
pub(super) fn write(state: &StateDir, name: &str, content: Zeroizing<Vec<u8>>) -> io::Result<()> {
    let later = &state.later;
    let deadline = Instant::now() + PATIENCE;
    let mut desk = later.desk();
    desk.number += 1;
    let number = desk.number;
    desk.pending.insert(name.to_owned(), Pending { content: Arc::new(content), number, failed: None });
    if !desk.running {
        let state = state.clone();
        thread::Builder::new().name("state".into()).spawn(move || run(&state))?;
        desk.running = true;
    }
    later.news.notify_all();
    loop {
        match desk.pending.get(name) {
            Some(pending) if pending.number == number => {
                if pending.failed.is_some() {
                    let why = desk.troubles.get(name).cloned().unwrap_or_default();
                    return Err(io::Error::other(why));
                }
            }
            _ => return Ok(()),
        }
        let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
            let why = "the disk is slow";
            desk.troubles.entry(name.to_owned()).or_insert_with(|| why.to_owned());
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        };
        desk = later.news.wait_timeout(desk, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Writes what there is to be written, until nobody else has the state directory and nothing is left.
fn run(state: &StateDir) {
    while let Some((name, content, number)) = next(state) {
        let written = state.replace(&name, |file| io::Write::write_all(file, &content));
        state.later.note(&name, written.as_ref().err());
        let left = *state.closed();
        let mut desk = state.later.desk();
        let is_newest = desk.pending.get(&name).is_some_and(|pending| pending.number == number);
        if is_newest && (written.is_ok() || left) {
            desk.pending.remove(&name);
        } else if is_newest && let Some(pending) = desk.pending.get_mut(&name) {
            pending.failed = Some(Instant::now());
        }
        drop(desk);
        state.later.news.notify_all();
    }
}

fn next(state: &StateDir) -> Option<(String, Content, u64)> {
    let later = &state.later;
    let mut desk = later.desk();
    loop {
        let is_due = |pending: &Pending| pending.failed.is_none_or(|failed| failed.elapsed() >= RETRY);
        if let Some((name, pending)) = desk.pending.iter().find(|(_, pending)| is_due(pending)) {
            return Some((name.clone(), Arc::clone(&pending.content), pending.number));
        }
        // The only one left is this thread's own.
        if Arc::strong_count(later) == 1 {
            desk.running = false;
            return None;
        }
        desk = later.news.wait_timeout(desk, RETRY).unwrap_or_else(PoisonError::into_inner).0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::Scratch;

    #[test]
    fn what_cannot_be_written_is_said_and_written_when_it_can_be() {
        let scratch = Scratch::new("later");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        state.remember("x.json", &1).unwrap();
        // Nothing can be written where this stands.
        let obstacle = scratch.0.join("x.json.next");
        std::fs::create_dir(&obstacle).unwrap();
        state.remember("x.json", &2).unwrap_err();
        assert!(state.warnings().concat().contains("x.json can't be written"), "{:?}", state.warnings());
        assert_eq!(state.read::<u8>("x.json"), Ok(Some(1)));
        std::fs::remove_dir(&obstacle).unwrap();
        // As after five seconds.
        for pending in state.later.desk().pending.values_mut() {
            pending.failed = None;
        }
        state.later.news.notify_all();
        while !state.warnings().is_empty() {
            thread::yield_now();
        }
        assert_eq!(state.read::<u8>("x.json"), Ok(Some(2)));
    }

    #[test]
    fn a_newer_content_takes_the_place_of_one_that_waits() {
        let scratch = Scratch::new("newer");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        let obstacle = scratch.0.join("x.json.next");
        std::fs::create_dir(&obstacle).unwrap();
        state.remember("x.json", &1).unwrap_err();
        std::fs::remove_dir(&obstacle).unwrap();
        state.remember("x.json", &2).unwrap();
        assert_eq!(state.read::<u8>("x.json"), Ok(Some(2)));
        assert!(state.warnings().is_empty() && state.later.desk().pending.is_empty());
    }
}
