//! How long a change takes from the request until all runners that it concerns have applied it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use mesh_model::{AdminCommand, TrustChange};
use mesh_proto::{Ports, ServicePath};
use tokio::time::sleep;

use crate::{agent::Herd, coordinator::Coordinator, mesh::Mesh};

const LOOK: Duration = Duration::from_millis(2);
/// A change without news for this long has no effect.
const LONGEST: Duration = Duration::from_secs(120);

/// A kind of change.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Attach,
    Trust,
    HubAttach,
    HubTrust,
}

/// What changes of one kind have cost.
pub(crate) struct Changes {
    pub(crate) kind: Kind,
    /// How many runners each concerned, on average.
    pub(crate) told: usize,
    /// Until the last one has applied it, in order of size.
    pub(crate) took: Vec<Duration>,
    /// Processor time of each, on average.
    pub(crate) cpu: Duration,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Attach, Self::Trust, Self::HubAttach, Self::HubTrust];

    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Attach => "attach",
            Self::Trust => "trust",
            Self::HubAttach => "attach in the hub",
            Self::HubTrust => "trust of the hub",
        }
    }

    /// How long no news has to come until a change is over.
    const fn quiet(self) -> Duration {
        match self {
            Self::Attach | Self::Trust => Duration::from_millis(300),
            Self::HubAttach | Self::HubTrust => Duration::from_millis(1200),
        }
    }

    async fn make(self, round: usize, coordinator: &Coordinator, herd: &Herd) -> Result<(), String> {
        let runners = herd.mesh.runners;
        // Not the hub, and not the same one twice: a trust that is there already is no news.
        let deployment = 1001 % runners + round * 101 % (runners - 1001 % runners).max(1);
        match self {
            Self::Attach => herd.attach(herd.mesh.homes(deployment)[0], service(deployment)),
            Self::HubAttach => herd.attach(herd.mesh.homes(0)[0], service(0)),
            Self::Trust => coordinator.order(&trust(deployment, (deployment + 3) % runners, 0)).await?,
            // Each opens the hub to another one, and takes it back in the next round.
            Self::HubTrust => coordinator.order(&trust(0, 1 + round / 2, round % 2)).await?,
        }
        Ok(())
    }
}

fn service(deployment: usize) -> ServicePath {
    ServicePath { deployment: Mesh::deployment(deployment), service: "s-0".parse().expect("a name") }
}

fn trust(callee: usize, caller: usize, back: usize) -> AdminCommand {
    let (callers, services) = (BTreeSet::from([Mesh::deployment(caller)]), None);
    // All ports are open already in the hub.
    let ports = Ports::All;
    let change = match (callee, back) {
        (0, 0) => TrustChange::Remove { callers, services, ports },
        _ => TrustChange::Add { callers, services, ports },
    };
    AdminCommand::Trust { deployment: Mesh::deployment(callee), change }
}

impl Changes {
    pub(crate) fn text(&self) -> String {
        format!(
            "{}: p50 {:.1} ms, p99 {:.1} ms, {} runners told, {:.1} ms of processor time ({} changes)",
            self.kind.text(),
            self.percentile(50),
            self.percentile(99),
            self.told,
            self.cpu.as_secs_f64() * 1000.0,
            self.took.len(),
        )
    }

    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let place = (self.took.len() * percent).div_ceil(100).max(1) - 1;
        self.took.get(place).map_or(0.0, |took| took.as_secs_f64() * 1000.0)
    }
}

/// Makes changes one after another, each when the one before is over.
pub(crate) async fn measure(
    kind: Kind,
    rounds: usize,
    coordinator: &Coordinator,
    herd: &Herd,
) -> Result<Changes, String> {
    let rounds = if matches!(kind, Kind::HubAttach | Kind::HubTrust) { rounds.div_ceil(2) } else { rounds };
    let (mut took, mut told) = (Vec::with_capacity(rounds), 0);
    let (counts, mut cpu) = (&herd.counts, Duration::ZERO);
    for round in 0..rounds {
        counts.news.borrow_mut().clear();
        counts.answers.borrow_mut().clear();
        let (begun, before) = (Instant::now(), coordinator.processor_time());
        let (mut seen, mut used) = (0, Duration::ZERO);
        kind.make(round, coordinator, herd).await?;
        let last = loop {
            sleep(LOOK).await;
            let (last, number) = (counts.news.borrow().last().copied(), counts.news.borrow().len());
            if std::mem::replace(&mut seen, number) < number {
                used = coordinator.processor_time().saturating_sub(before);
            }
            match last {
                Some(last) if last.elapsed() > kind.quiet() => break last,
                None if begun.elapsed() > LONGEST => {
                    return Err(format!("{}: no news: {:?}", kind.text(), counts.answers.borrow()));
                }
                _ => {}
            }
        };
        took.push(last.saturating_duration_since(begun));
        told += counts.news.borrow().len();
        cpu += used;
    }
    took.sort_unstable();
    Ok(Changes { kind, told: told / rounds, took, cpu: cpu / u32::try_from(rounds).unwrap_or(1) })
}
