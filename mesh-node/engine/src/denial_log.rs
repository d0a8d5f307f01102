//! The latest rejections, for `mesh-node denied`.

use std::{collections::BTreeMap, time::Instant};

use crate::{
    Reason,
    route::{Affiliation, Party},
};

/// How many entries are kept.
const KEPT: usize = 100;

/// The latest rejections. Equal ones are counted in one entry. When the log is full, an old entry of the tenant with the
/// most entries makes room, so that no tenant displaces what others need to see. The size is fixed, so that a flood
/// costs no memory.
#[derive(Debug)]
pub(crate) struct DenialLog(Vec<Entry>);

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) caller: Party,
    pub(crate) callee: Party,
    /// Zero if the packet isn't TCP.
    pub(crate) port: u16,
    pub(crate) reason: Reason,
    pub(crate) count: u64,
    pub(crate) last: Instant,
}

/// Whether both have the same name for an operator: instances come and go.
fn same_name(a: &Party, b: &Party) -> bool {
    a.service == b.service && (a.service.is_some() || a.address == b.address)
}

impl DenialLog {
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(KEPT))
    }

    /// Notes that a packet to TCP port `port` was rejected.
    pub(crate) fn note(&mut self, (caller, callee): (Party, Party), port: u16, reason: Reason, now: Instant) {
        let same = |entry: &&mut Entry| {
            (entry.port, entry.reason) == (port, reason)
                && same_name(&entry.caller, &caller)
                && same_name(&entry.callee, &callee)
        };
        if let Some(entry) = self.0.iter_mut().find(same) {
            (entry.caller, entry.callee, entry.last) = (caller, callee, now);
            entry.count += 1;
            return;
        }
        let entry = Entry { caller, callee, port, reason, count: 1, last: now };
        if self.0.len() < KEPT {
            self.0.push(entry);
        } else if let Some(place) = self.least_missed(caller.affiliation) {
            self.0[place] = entry;
        }
    }

    /// The entry that makes room for one of `newcomer`: the oldest of the deployment with the most, in the team with
    /// the most. Between equals, the newcomer's own.
    fn least_missed(&self, newcomer: Affiliation) -> Option<usize> {
        let team = most(self.0.iter().map(|e| e.caller.affiliation.team), newcomer.team)?;
        let of_team = || self.0.iter().filter(|e| e.caller.affiliation.team == team);
        let deployment = most(of_team().map(|e| e.caller.affiliation.deployment), newcomer.deployment)?;
        let largest = Affiliation { team, deployment };
        let of_largest = self.0.iter().enumerate().filter(|(_, e)| e.caller.affiliation == largest);
        of_largest.min_by_key(|(_, entry)| entry.last).map(|(place, _)| place)
    }

    pub(crate) fn latest_first(&self) -> Vec<&Entry> {
        let mut all: Vec<&Entry> = self.0.iter().collect();
        all.sort_by_key(|entry| std::cmp::Reverse(entry.last));
        all
    }
}

/// The most frequent number; between equals `own`, if that is one of them.
fn most(numbers: impl Iterator<Item = u64>, own: u64) -> Option<u64> {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    numbers.for_each(|number| *counts.entry(number).or_default() += 1);
    counts.into_iter().max_by_key(|(number, count)| (*count, *number == own)).map(|(number, _)| number)
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use mesh_proto::ServiceId;

    use super::*;

    fn party(service: u64, team: u64, deployment: u64) -> Party {
        let address = Ipv4Addr::from_bits(0x6470_0000 + service as u32);
        Party { address, service: Some(ServiceId(service)), affiliation: Affiliation { team, deployment } }
    }

    #[test]
    fn equal_ones_are_counted_and_the_oldest_gives_way() {
        let start = Instant::now();
        let parties = (party(1, 1, 1), party(2, 1, 1));
        let mut denials = DenialLog::new();
        denials.note(parties, 7, Reason::NoTrust, start);
        for port in 0..150 {
            denials.note(parties, port, Reason::NoTrust, start + Duration::from_secs(port.into()));
        }
        denials.note(parties, 149, Reason::NoTrust, start + Duration::from_secs(150));
        denials.note(parties, 149, Reason::WrongWay, start + Duration::from_secs(151));
        let all: Vec<_> = denials.latest_first().iter().map(|d| (d.port, d.reason, d.count)).collect();
        assert_eq!(all.len(), KEPT);
        assert_eq!(all[..3], [(149, Reason::WrongWay, 1), (149, Reason::NoTrust, 2), (148, Reason::NoTrust, 1)]);
        assert_eq!(all[99], (51, Reason::NoTrust, 1));
    }

    #[test]
    fn a_tenant_that_knocks_at_every_port_washes_out_its_own_only() {
        let (start, mut denials) = (Instant::now(), DenialLog::new());
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
        let all = denials.latest_first();
        assert_eq!(all.len(), KEPT);
        for service in [0, 2] {
            assert!(all.iter().any(|d| d.caller.service == Some(ServiceId(service))), "service {service}");
        }
        let of = |team| all.iter().filter(|d| d.caller.affiliation.team == team).count();
        assert!(of(7) >= 48 && of(1) >= 48, "{} and {}", of(7), of(1));
    }

    #[test]
    fn instances_that_come_and_go_are_one_caller() {
        let (start, mut denials) = (Instant::now(), DenialLog::new());
        for last in 0..200 {
            let caller = Party { address: Ipv4Addr::new(100, 127, 0, last), ..party(1, 1, 1) };
            let now = start + Duration::from_secs(last.into());
            denials.note((caller, party(2, 1, 1)), 80, Reason::NoTrust, now);
            let unknown = Party { service: None, ..caller };
            denials.note((unknown, party(2, 1, 1)), 80, Reason::NoTrust, now);
        }
        let all = denials.latest_first();
        assert_eq!(all.iter().filter(|d| d.caller.service.is_some()).map(|d| d.count).collect::<Vec<_>>(), [200]);
    }
}
