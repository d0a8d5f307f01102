//! How long runners are without a stream whose coordinator fails.

use std::time::{Duration, Instant};

use super::{Fault, Several, look};
use crate::{Coordinator, Runner};

/// By then they have found another one, also on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(60);

impl Several<'_> {
    /// Has this befall the coordinator with the most streams until their runners have others; how long each of them took.
    ///
    /// # Panics
    /// If one doesn't find another coordinator.
    pub fn take_over(&mut self, fault: Fault) -> Vec<Duration> {
        let most = (0..self.coordinators.len()).max_by_key(|one| self.streams_at(*one).len());
        let most = most.expect("there are coordinators");
        let lost = self.streams_at(most);
        let mut streams = self.streams();
        let mut took: Vec<Option<Duration>> = vec![None; lost.len()];
        let mut began = None;
        self.strike_at(fault, (most, 0, 1), LIMIT, || {
            let began: &Instant = began.get_or_insert_with(Instant::now);
            for (took, runner) in took.iter_mut().zip(&lost) {
                if took.is_none() && streams[*runner].count() > 0 {
                    *took = Some(began.elapsed());
                }
            }
            took.iter().all(Option::is_some)
        });
        let found = |(took, runner): (Option<Duration>, &usize)| {
            took.unwrap_or_else(|| panic!("the runner {} found no other coordinator", runner + 1))
        };
        took.into_iter().zip(&lost).map(found).collect()
    }

    /// The runners whose newest streams a coordinator says that it has.
    fn streams_at(&self, coordinator: usize) -> Vec<usize> {
        let nodes = look::get(self.coordinators[coordinator].data(), "nodes").expect("the coordinator answers");
        let logs: Vec<String> = self.coordinators.iter().map(Coordinator::log).collect();
        let here = |runner: &Runner| {
            let name = runner.namespace().name();
            let node = look::rows(&nodes, "nodes").find(|node| node["name"] == name).expect("a runner");
            let began = format!("stream began runner={} ", node["id"].as_str().expect("an identifier"));
            // Lines begin with their times.
            let newest = |log: &String| log.lines().rfind(|line| line.contains(&began)).map(str::to_owned);
            (0..logs.len()).max_by_key(|one| newest(&logs[*one])) == Some(coordinator)
        };
        (0..self.runners.len()).filter(|runner| here(&self.runners[*runner])).collect()
    }
}
