//! What a simulated agent reports of connections: all its pairs, each with other counts than before.

use std::time::Duration;

use mesh_proto::{
    ServiceId,
    telemetry::{Counts, Pair, Side, Telemetry},
};
use tokio::time::Instant;

use crate::mesh::Mesh;

/// When an agent reports, and what it has.
#[derive(Debug, Default)]
pub(crate) struct Reporting {
    every: Duration,
    pub(crate) due: Option<Instant>,
    rounds: u64,
}

impl Reporting {
    /// Another stream begins: nothing is asked for.
    pub(crate) fn begin(&mut self) {
        self.due = None;
    }

    /// So often; `lot`, from 0 to 1, spreads the agents.
    pub(crate) fn wish(&mut self, seconds: u32, lot: f64) {
        self.every = Duration::from_secs(seconds.into());
        self.due = (seconds > 0).then(|| Instant::now() + self.every.mul_f64(lot));
    }

    /// The next report.
    pub(crate) fn next(&mut self, mesh: &Mesh, agent: usize, edges: usize) -> Telemetry {
        self.due = Some(Instant::now() + self.every);
        self.rounds += 1;
        let own: Vec<ServiceId> = mesh.hosted(agent);
        let services = mesh.services() as u64;
        let pairs = (0..edges).filter_map(|n| {
            let caller = *own.get(n % own.len().max(1))?;
            let callee = ServiceId(1 + (caller.0 * 31 + n as u64 * 7) % services);
            let (opened, bytes) = (self.rounds * 10, self.rounds * 100_000);
            let counts = Counts { opened, open: 3, sent: bytes, received: 9 * bytes, ..Counts::default() };
            Some(Pair { caller, callee, side: Side::From, counts })
        });
        Telemetry { life: 1 + agent as u64, age: Some(60), pairs: pairs.collect(), ..Telemetry::default() }
    }
}
