//! All coordinators are written to at once, as fast as they take it.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{Several, look};
use crate::Coordinator;

impl Several<'_> {
    /// So many clients at each coordinator, each of which writes again as soon as it has its answer. Returns how long each
    /// write took, by coordinator.
    ///
    /// # Panics
    /// If a write is refused.
    #[must_use]
    pub fn rush(&self, clients: usize, lasts: Duration) -> Vec<Vec<Duration>> {
        let number = self.coordinators.len();
        let apps: Vec<Vec<String>> =
            (0..number).map(|at| (0..clients).map(|client| format!("rush-{at}-{client}")).collect()).collect();
        for app in apps.iter().flatten() {
            self.coordinators[0].apply(&format!("deployment = \"{app}\"\n[services.x]\n")).done();
        }
        let until = Instant::now() + lasts;
        let took = thread::scope(|scope| {
            let at = |(coordinator, apps): (&Coordinator, &Vec<String>)| {
                let data = coordinator.data().to_owned();
                let client = |app: String| {
                    let data = data.clone();
                    scope.spawn(move || write(&data, &app, until))
                };
                apps.iter().cloned().map(client).collect::<Vec<_>>()
            };
            let all: Vec<Vec<_>> = self.coordinators.iter().zip(&apps).map(at).collect();
            let took = |client: thread::ScopedJoinHandle<'_, Vec<Duration>>| client.join().expect("a client");
            all.into_iter().map(|clients| clients.into_iter().flat_map(took).collect()).collect()
        });
        for app in apps.iter().flatten() {
            self.coordinators[0].command(&["delete", app]).done();
        }
        took
    }
}

/// Gives and takes trust until then.
fn write(data: &Path, app: &str, until: Instant) -> Vec<Duration> {
    let (mut took, way) = (vec![], format!("trust-and-wait/{app}"));
    for change in ["add", "remove"].into_iter().cycle() {
        let began = Instant::now();
        if began > until {
            break;
        }
        let change = json!({"change": change, "callers": ["v1"], "services": null, "ports": "all"});
        let answer = look::post(data, &way, &json!({"change": change, "milliseconds": 0}));
        assert!(matches!(answer, look::Answer::Given(200, _)), "a write that nothing stands in the way of");
        took.push(began.elapsed());
    }
    took
}
