//! Log lines about runners that don't answer: one when it begins, one when it ends.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use mesh_proto::RunnerId;

use super::{Agent, why};

/// The runners that are logged as not answering. A runner that leaves the view and returns stays, so that it is logged once.
#[derive(Debug, Default)]
pub(super) struct Broken(Mutex<BTreeSet<RunnerId>>);

/// The most runners that are remembered: beyond that, a line may be repeated.
const REMEMBERED: usize = 4096;

impl Broken {
    /// Whether that is news.
    fn insert(&self, runner: RunnerId) -> bool {
        let mut runners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if runners.len() >= REMEMBERED {
            runners.pop_first();
        }
        runners.insert(runner)
    }

    fn remove(&self, runner: RunnerId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&runner)
    }
}

impl Agent {
    /// Handshakes with a runner go unanswered.
    pub(super) async fn path_broken(&self, runner: RunnerId) {
        let (view, report) = (self.control.view(), self.dataplane.report().await);
        let Some(record) = view.as_deref().and_then(|view| view.runner(runner)) else { return };
        if self.broken.insert(runner) {
            let seen = why::Seen { report: report.as_ref(), relay: &|relay| self.relays.of(relay) };
            let words = why::path_in_words(self.runner, seen, record);
            tracing::warn!(runner = %record.name, "no connection {words}");
        }
    }

    /// It has answered.
    pub(super) fn path_healed(&self, runner: RunnerId) {
        if self.broken.remove(runner) {
            let view = self.control.view();
            let name = view.as_deref().and_then(|view| view.runner(runner)).map(|record| record.name.to_string());
            tracing::info!(runner = %name.unwrap_or_else(|| runner.to_string()), "the runner answers again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_path_is_news_once_until_it_heals_and_what_is_remembered_is_bounded() {
        let broken = Broken::default();
        assert!(broken.insert(RunnerId(1)) && !broken.insert(RunnerId(1)));
        assert!(broken.remove(RunnerId(1)) && !broken.remove(RunnerId(1)) && broken.insert(RunnerId(1)));
        (0..2 * REMEMBERED as u64).for_each(|runner| assert!(broken.insert(RunnerId(runner)) || runner == 1));
        assert!(broken.0.lock().unwrap().len() <= REMEMBERED);
    }
}
