//! The last refusals, for people who ask why.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Instant};

use mesh_proto::ServiceId;

use crate::{Reason, route::Tenant};

/// How many are kept.
const KEPT: usize = 100;

/// The last refusals: equal ones are counted, and an old one of the tenant that has the most gives way, so that no
/// tenant washes out what others want to know. Of fixed size, so that a flood of refusals costs no memory.
#[derive(Debug)]
pub(crate) struct Denials(Vec<Denial>);

#[derive(Debug)]
pub(crate) struct Denial {
    pub(crate) caller: Party,
    pub(crate) callee: Party,
    /// Zero for what isn't TCP.
    pub(crate) port: u16,
    pub(crate) reason: Reason,
    pub(crate) count: u64,
    pub(crate) last: Instant,
}

/// One end of what was refused, as the map had it then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Party {
    pub(crate) address: Ipv4Addr,
    pub(crate) service: Option<ServiceId>,
    pub(crate) tenant: Tenant,
}

impl Party {
    /// Whether people would call it by the same name: instances come and go.
    fn is_named_like(&self, other: &Self) -> bool {
        self.service == other.service && (self.service.is_some() || self.address == other.address)
    }
}

impl Denials {
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(KEPT))
    }

    /// Notes that a packet to TCP port `port` was refused.
    pub(crate) fn note(&mut self, (caller, callee): (Party, Party), port: u16, reason: Reason, now: Instant) {
        let same = |d: &&mut Denial| {
            (d.port, d.reason) == (port, reason) && d.caller.is_named_like(&caller) && d.callee.is_named_like(&callee)
        };
        let before = self.0.iter_mut().find(same).map(|denial| {
            (denial.caller, denial.callee, denial.last) = (caller, callee, now);
            denial.count += 1;
        });
        if before.is_some() {
            return;
        }
        let denial = Denial { caller, callee, port, reason, count: 1, last: now };
        if self.0.len() < KEPT {
            self.0.push(denial);
        } else if let Some(place) = self.least_missed(caller.tenant) {
            self.0[place] = denial;
        }
    }

    /// Whose place is given to one of `tenant`: the oldest of the deployment that has the most, in the team that has the
    /// most. Of equals, its own.
    fn least_missed(&self, tenant: Tenant) -> Option<usize> {
        let team = most(self.0.iter().map(|d| d.caller.tenant.team), tenant.team)?;
        let of_team = || self.0.iter().filter(|d| d.caller.tenant.team == team);
        let deployment = most(of_team().map(|d| d.caller.tenant.deployment), tenant.deployment)?;
        let of_both = self.0.iter().enumerate().filter(|(_, d)| d.caller.tenant == Tenant { team, deployment });
        of_both.min_by_key(|(_, denial)| denial.last).map(|(place, _)| place)
    }

    /// Latest first.
    pub(crate) fn all(&self) -> Vec<&Denial> {
        let mut all: Vec<&Denial> = self.0.iter().collect();
        all.sort_by_key(|denial| std::cmp::Reverse(denial.last));
        all
    }
}

/// What comes most often; of equals `own`, if that is among them.
fn most(of: impl Iterator<Item = u64>, own: u64) -> Option<u64> {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    of.for_each(|one| *counts.entry(one).or_default() += 1);
    counts.into_iter().max_by_key(|(one, count)| (*count, *one == own)).map(|(one, _)| one)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn party(service: u64, team: u64, deployment: u64) -> Party {
        let address = Ipv4Addr::from_bits(0x6470_0000 + service as u32);
        Party { address, service: Some(ServiceId(service)), tenant: Tenant { team, deployment } }
    }

    #[test]
    fn equal_ones_are_counted_and_the_oldest_gives_way() {
        let start = Instant::now();
        let parties = (party(1, 1, 1), party(2, 1, 1));
        let mut denials = Denials::new();
        denials.note(parties, 7, Reason::NoTrust, start);
        for port in 0..150 {
            denials.note(parties, port, Reason::NoTrust, start + Duration::from_secs(port.into()));
        }
        denials.note(parties, 149, Reason::NoTrust, start + Duration::from_secs(150));
        denials.note(parties, 149, Reason::WrongWay, start + Duration::from_secs(151));
        let all: Vec<_> = denials.all().iter().map(|d| (d.port, d.reason, d.count)).collect();
        assert_eq!(all.len(), KEPT);
        assert_eq!(all[..3], [(149, Reason::WrongWay, 1), (149, Reason::NoTrust, 2), (148, Reason::NoTrust, 1)]);
        assert_eq!(all[99], (51, Reason::NoTrust, 1));
    }

    #[test]
    fn a_tenant_that_knocks_at_every_port_washes_out_its_own_only() {
        let (start, mut denials) = (Instant::now(), Denials::new());
        let quiet = [(1, 1), (1, 2), (2, 3)];
        for (i, (team, deployment)) in (0..).zip(quiet) {
            denials.note((party(i, team, deployment), party(9, 1, 1)), 5432, Reason::NoTrust, start);
        }
        // One team from many deployments, and one deployment of a team that has a quiet one as well.
        for (after, port) in (1..).zip(0..3000) {
            let now = start + Duration::from_secs(after);
            denials.note((party(20, 7, 100 + u64::from(port % 50)), party(9, 1, 1)), port, Reason::NoTrust, now);
            denials.note((party(21, 1, 2), party(9, 1, 1)), port, Reason::NoTrust, now);
        }
        let all = denials.all();
        assert_eq!(all.len(), KEPT);
        for service in [0, 2] {
            assert!(all.iter().any(|d| d.caller.service == Some(ServiceId(service))), "service {service}");
        }
        let of = |team| all.iter().filter(|d| d.caller.tenant.team == team).count();
        assert!(of(7) >= 48 && of(1) >= 48, "{} and {}", of(7), of(1));
    }

    #[test]
    fn instances_that_come_and_go_are_one_caller() {
        let (start, mut denials) = (Instant::now(), Denials::new());
        for last in 0..200 {
            let caller = Party { address: Ipv4Addr::new(100, 127, 0, last), ..party(1, 1, 1) };
            let now = start + Duration::from_secs(last.into());
            denials.note((caller, party(2, 1, 1)), 80, Reason::NoTrust, now);
            let unknown = Party { service: None, ..caller };
            denials.note((unknown, party(2, 1, 1)), 80, Reason::NoTrust, now);
        }
        let all = denials.all();
        assert_eq!(all.iter().filter(|d| d.caller.service.is_some()).map(|d| d.count).collect::<Vec<_>>(), [200]);
    }
}
