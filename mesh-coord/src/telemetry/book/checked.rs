//! A report, compared with what the coordinator knows: a runner reports of what it hosts, and of nothing else.

use std::collections::HashSet;

use mesh_model::State;
use mesh_proto::{
    RunnerId, ServiceId, ServicePath,
    telemetry::{MOST_PAIRS, MOST_PATHS, MOST_REFUSED, Pair, Party, Side, Telemetry},
};

/// The longest name of a reason, in bytes.
const MOST_REASON: usize = 40;
/// A report with what the coordinator's state says of it.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(super) report: Telemetry,
    /// Which of the pairs the runner hosts an end of.
    pub(super) hosted: Vec<bool>,
    /// The names of refused connections' ends.
    pub(super) names: Vec<[Option<ServicePath>; 2]>,
    /// Refused connections that the runner has nothing to do with.
    pub(super) foreign: u64,
}

impl Checked {
    /// Compares a report of `runner` with the state.
    pub(crate) fn new(mut report: Telemetry, runner: RunnerId, state: &State) -> Self {
        report.pairs.truncate(MOST_PAIRS);
        report.refused.truncate(MOST_REFUSED);
        report.paths.truncate(MOST_PATHS);
        let here: HashSet<ServiceId> = state.instances_on(runner).map(|instance| instance.service).collect();
        let hosts = |pair: &Pair| match pair.side {
            Side::Both => here.contains(&pair.caller) && here.contains(&pair.callee),
            Side::From => here.contains(&pair.caller),
            Side::To => here.contains(&pair.callee),
        };
        let hosted = report.pairs.iter().map(hosts).collect();
        let known = report.refused.len();
        report.refused.retain(|refused| {
            let services = [refused.caller.service, refused.callee.service];
            // It may have ended since.
            services.iter().flatten().any(|service| state.may_host(runner, *service)) || services == [None; 2]
        });
        let foreign = (known - report.refused.len()) as u64;
        for refused in &mut report.refused {
            if !is_reason(&refused.reason) {
                "other".clone_into(&mut refused.reason);
            }
        }
        let name = |party: Party| party.service.and_then(|service| state.path_of(service));
        let names = report.refused.iter().map(|refused| [name(refused.caller), name(refused.callee)]).collect();
        Self { report, hosted, names, foreign }
    }
}

/// Whether a text can be a reason as agents name them.
fn is_reason(text: &str) -> bool {
    (1..=MOST_REASON).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}
