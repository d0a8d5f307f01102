//! What runners report of connections: for pages, metrics and previews, in memory only. A report never grants or takes
//! anything.

mod book;
mod shared;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use clap::ValueEnum;
use mesh_proto::message::Down;

pub(crate) use book::{Book, Checked, Edge, Name, Refusal};
pub(crate) use shared::{All, AskReports, Reports};

/// How often runners report.
const SELDOM: Duration = Duration::from_secs(60);
/// How often they report while an operator watches.
const OFTEN: Duration = Duration::from_secs(5);
/// For how long one look counts as watching.
const WATCHED: Duration = Duration::from_secs(20);

/// What runners report.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Nothing
    Off,
    /// Connections and paths, without what was refused
    Counts,
    /// Connections, paths and refused connections
    #[default]
    Full,
}

/// What runners have reported, and how often they do.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    mode: Mode,
    book: Mutex<Book>,
    watched: Mutex<Option<Instant>>,
}

/// How often a runner reports, and whether refused connections are included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    every: Duration,
    refusals: bool,
}

impl Wish {
    /// None at all.
    pub(crate) const NONE: Self = Self { every: Duration::ZERO, refusals: false };

    pub(crate) fn message(self) -> Down {
        Down::Telemetry { seconds: self.every.as_secs() as u32, refusals: self.refusals }
    }
}

impl Telemetry {
    pub(crate) fn new(mode: Mode) -> Self {
        Self { mode, ..Self::default() }
    }

    /// How often runners report now.
    pub(crate) fn wish(&self, now: Instant) -> Wish {
        let is_watched = self.watched().is_some_and(|last| now.saturating_duration_since(last) < WATCHED);
        match self.mode {
            Mode::Off => Wish::NONE,
            mode => Wish { every: if is_watched { OFTEN } else { SELDOM }, refusals: mode == Mode::Full },
        }
    }

    /// An operator looks at live numbers.
    pub(crate) fn watch(&self, now: Instant) {
        *self.watched() = Some(now);
    }

    /// The same if it isn't in use: the writer must not wait for a reader.
    pub(crate) fn free_book(&self) -> Option<MutexGuard<'_, Book>> {
        self.book.try_lock().ok()
    }

    /// What runners have reported; `None` if they don't. Not to be called by the writer: a reader may hold it for a
    /// tenth of a second.
    pub(crate) fn book(&self) -> Option<MutexGuard<'_, Book>> {
        (self.mode != Mode::Off).then(|| self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn watched(&self) -> MutexGuard<'_, Option<Instant>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runners_report_often_while_an_operator_watches() {
        let (telemetry, now) = (Telemetry::new(Mode::Full), Instant::now());
        let seconds = |telemetry: &Telemetry, after| telemetry.wish(now + Duration::from_secs(after)).every.as_secs();
        assert_eq!(seconds(&telemetry, 0), 60);
        telemetry.watch(now);
        assert_eq!((seconds(&telemetry, 1), seconds(&telemetry, 19), seconds(&telemetry, 20)), (5, 5, 60));
        let off = Telemetry::new(Mode::Off);
        off.watch(now);
        assert!(off.wish(now) == Wish::NONE && off.book().is_none());
    }
}
