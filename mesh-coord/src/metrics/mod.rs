//! What happens at the coordinator, counted as it happens. Numbers of the state are read when they are asked for
//! (`crate::exposition`). No label has a value that a tenant chooses.

mod words;

use std::time::Duration;

use mesh_metrics::prometheus_client::{
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        histogram::Histogram,
    },
    registry::Registry,
};

pub(crate) use words::{Closed, Enrolment, Secret, Verdict, ViewKind};

/// The commands, as the log and the audit name them.
const COMMANDS: [&str; 14] = [
    "apply",
    "delete",
    "drain",
    "node-drain",
    "node-remove",
    "node-undrain",
    "relay-add",
    "relay-remove",
    "switch",
    "token-create",
    "token-revoke",
    "trust",
    "undrain",
    "other",
];
/// The label of what no route matches, and of other methods.
const OTHER: &str = "other";
const METHODS: [&str; 5] = ["GET", "HEAD", "POST", "PUT", "DELETE"];

/// Upper bounds in seconds of how long a commit takes.
const COMMIT: [f64; 12] = [0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.03, 0.06, 0.125, 0.25, 0.5, 1.0];
/// The same of a request.
const REQUEST: [f64; 7] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0];
/// The same until a change is in force.
const APPLY: [f64; 14] = [0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.25, 2.5, 5.0, 10.0, 20.0, 30.0];

/// Labels with values that are fixed.
type Fixed<const N: usize> = [(&'static str, &'static str); N];
type Route = (&'static str, String);

/// The counters, and the registry that lists them.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    commands: Family<Fixed<2>, Counter>,
    commits: Histogram,
    store_errors: Counter,
    streams_opened: Counter,
    streams_closed: Family<Fixed<1>, Counter>,
    views: Family<Fixed<1>, Counter>,
    view_bytes: Family<Fixed<1>, Counter>,
    applied: Histogram,
    requests: Family<[Route; 3], Counter>,
    durations: Family<[Route; 1], Histogram, Durations>,
    auth_failures: Family<Fixed<1>, Counter>,
    enrolments: Family<Fixed<1>, Counter>,
}

/// Makes the histogram of a route.
#[derive(Debug, Clone)]
struct Durations;

impl MetricConstructor<Histogram> for Durations {
    fn new_metric(&self) -> Histogram {
        Histogram::new(REQUEST)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Registry::default(),
            commands: Family::default(),
            commits: Histogram::new(COMMIT),
            store_errors: Counter::default(),
            streams_opened: Counter::default(),
            streams_closed: Family::default(),
            views: Family::default(),
            view_bytes: Family::default(),
            applied: Histogram::new(APPLY),
            requests: Family::default(),
            durations: Family::new_with_constructor(Durations),
            auth_failures: Family::default(),
            enrolments: Family::default(),
        };
        metrics.begin_with_zero();
        metrics.registered()
    }
}

impl Metrics {
    /// Every fixed value of a label is there from the start: an increase of what isn't there can't be seen.
    fn begin_with_zero(&self) {
        for command in COMMANDS {
            for verdict in Verdict::ALL {
                drop(self.commands.get_or_create(&[("command", command), ("result", verdict.word())]));
            }
        }
        for reason in Closed::ALL {
            drop(self.streams_closed.get_or_create(&[("reason", reason.word())]));
        }
        for kind in ViewKind::ALL {
            drop(self.views.get_or_create(&[("kind", kind.word())]));
            drop(self.view_bytes.get_or_create(&[("kind", kind.word())]));
        }
        for kind in Secret::ALL {
            drop(self.auth_failures.get_or_create(&[("kind", kind.word())]));
        }
        for result in Enrolment::ALL {
            drop(self.enrolments.get_or_create(&[("result", result.word())]));
        }
    }

    fn registered(mut self) -> Self {
        let mut registry = Registry::with_prefix("mesh_coord");
        let r = &mut registry;
        r.register("commands", "Commands of administrators", self.commands.clone());
        r.register("store_commit_seconds", "How long a commit takes, in seconds", self.commits.clone());
        r.register("store_errors", "Commits that failed", self.store_errors.clone());
        r.register("streams_opened", "Streams that runners have opened", self.streams_opened.clone());
        r.register("streams_closed", "Streams of runners that have ended", self.streams_closed.clone());
        r.register("views_sent", "Views sent to runners", self.views.clone());
        r.register("views_sent_bytes", "Bytes of views sent to runners", self.view_bytes.clone());
        r.register(
            "apply_seconds",
            "From a change, or the begin of a stream, until a runner's view is in force there, in seconds",
            self.applied.clone(),
        );
        r.register("http_requests", "Requests that were answered", self.requests.clone());
        r.register("http_request_duration_seconds", "How long a request takes, in seconds", self.durations.clone());
        r.register(
            "auth_failures",
            "Requests with a secret that is none of this coordinator's",
            self.auth_failures.clone(),
        );
        r.register("enrolments", "Requests of machines to become a runner", self.enrolments.clone());
        self.registry = registry;
        self
    }

    /// All of them, to be written.
    pub(crate) const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A command of an administrator has ended.
    pub(crate) fn command(&self, name: &str, verdict: Verdict) {
        let known = COMMANDS.into_iter().find(|command| *command == name).unwrap_or(OTHER);
        self.commands.get_or_create(&[("command", known), ("result", verdict.word())]).inc();
    }

    /// A commit has ended.
    pub(crate) fn commit(&self, took: Duration, failed: bool) {
        self.commits.observe(took.as_secs_f64());
        if failed {
            self.store_errors.inc();
        }
    }

    /// A runner has opened a stream.
    pub(crate) fn stream_opened(&self) {
        self.streams_opened.inc();
    }

    /// A stream that was open has ended.
    pub(crate) fn stream_closed(&self, reason: Closed) {
        self.streams_closed.get_or_create(&[("reason", reason.word())]).inc();
    }

    /// A view was sent.
    pub(crate) fn view_sent(&self, kind: ViewKind, bytes: usize) {
        self.views.get_or_create(&[("kind", kind.word())]).inc();
        self.view_bytes.get_or_create(&[("kind", kind.word())]).inc_by(bytes as u64);
    }

    /// A runner's view is in force.
    pub(crate) fn applied(&self, took: Duration) {
        self.applied.observe(took.as_secs_f64());
    }

    /// A request was answered. `route` is the pattern that it matches, never its path.
    pub(crate) fn request(&self, route: Option<&str>, method: &str, status: u16, took: Duration) {
        let route = route.unwrap_or(OTHER).to_owned();
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or(OTHER).to_owned();
        self.durations.get_or_create(&[("route", route.clone())]).observe(took.as_secs_f64());
        self.requests.get_or_create(&[("route", route), ("method", method), ("code", status.to_string())]).inc();
    }

    /// A secret was none of this coordinator's.
    pub(crate) fn auth_failed(&self, kind: Secret) {
        self.auth_failures.get_or_create(&[("kind", kind.word())]).inc();
    }

    /// A machine asked to become a runner.
    pub(crate) fn enrolment(&self, result: Enrolment) {
        self.enrolments.get_or_create(&[("result", result.word())]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_choose_makes_no_new_series() {
        let metrics = Metrics::default();
        let series = |metrics: &Metrics| mesh_metrics::text(&[metrics.registry()]).lines().count();
        metrics.request(None, "BREW", 404, Duration::ZERO);
        metrics.command("a new one", Verdict::Done);
        let before = series(&metrics);
        for n in 0..100 {
            metrics.request(None, &format!("M{n}"), 404, Duration::ZERO);
            metrics.command(&n.to_string(), Verdict::Done);
        }
        assert_eq!(series(&metrics), before);
        let text = mesh_metrics::text(&[metrics.registry()]);
        assert!(
            text.contains(r#"mesh_coord_http_requests_total{route="other",method="other",code="404"} 101"#),
            "{text}"
        );
        assert!(text.contains(r#"mesh_coord_commands_total{command="trust",result="refused"} 0"#), "{text}");
    }
}
