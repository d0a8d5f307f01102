//! How many connections each source may have at once. Strangers, which have presented no credential, share a part of
//! the places by address. Runners and tokens have other places, shared by team. If no place is left, the holder of
//! the most loses one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use super::share;
use crate::tenant::{Tenant, Who};

/// The progress of a stranger's connection. Connections with less progress end first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Nothing was received.
    Silent,
    /// In the TLS handshake.
    Handshake,
    /// Without a request.
    Idle,
    /// With a request.
    Busy,
}

/// How many places there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// For all strangers.
    pub(crate) strangers: usize,
    /// For one address, or for an IPv6 /64, among strangers.
    pub(crate) of_address: usize,
    /// For runners and tokens.
    pub(crate) tenants: usize,
    /// For one token.
    pub(crate) of_token: usize,
    /// For the streams of one runner.
    pub(crate) of_runner: usize,
    /// For those of them that have not begun.
    pub(crate) of_runner_new: usize,
}

impl Room {
    /// Divides this many places.
    pub(crate) const fn of(places: usize) -> Self {
        let strangers = if places / 4 < 2048 { places / 4 } else { 2048 };
        Self { strangers, of_address: 64, tenants: places - strangers, of_token: 256, of_runner: 4, of_runner_new: 2 }
    }
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// The tenant has as many as it may have.
    Own,
    /// None is left for its team.
    All,
}

/// A connection.
pub(crate) type Id = u64;

#[derive(Debug)]
enum Holder {
    Stranger { address: IpAddr, stage: Stage },
    Tenant { tenant: Tenant, begun: bool },
}

type Team = BTreeMap<Who, BTreeSet<Id>>;

/// The open connections.
#[derive(Debug)]
pub(crate) struct Places {
    room: Room,
    next: Id,
    held: HashMap<Id, Holder>,
    addresses: HashMap<IpAddr, BTreeSet<Id>>,
    teams: BTreeMap<Arc<str>, Team>,
    strangers: usize,
}

impl Places {
    pub(crate) fn new(room: Room) -> Self {
        Self { room, next: 0, held: HashMap::new(), addresses: HashMap::new(), teams: BTreeMap::new(), strangers: 0 }
    }

    /// Gives a new connection from this address its place. Returns the connection that has to end for it. There is
    /// always a place, because otherwise a good credential could not be presented.
    pub(crate) fn enter(&mut self, address: IpAddr) -> (Id, Option<Id>) {
        let address = share(address);
        let own = self.addresses.get(&address).map_or(0, BTreeSet::len);
        let crowd = if own >= self.room.of_address {
            Some(address)
        } else if self.strangers >= self.room.strangers {
            self.addresses.iter().max_by_key(|(_, held)| held.len()).map(|(address, _)| *address)
        } else {
            None
        };
        let gone = crowd.and_then(|address| self.least_of(address));
        if let Some(gone) = gone {
            self.leave(gone);
        }
        let id = self.next;
        self.next += 1;
        self.held.insert(id, Holder::Stranger { address, stage: Stage::Silent });
        self.addresses.entry(address).or_default().insert(id);
        self.strangers += 1;
        (id, gone)
    }

    /// Records the stage of a stranger's connection.
    pub(crate) fn reach(&mut self, id: Id, now: Stage) {
        if let Some(Holder::Stranger { stage, .. }) = self.held.get_mut(&id) {
            *stage = now;
        }
    }

    /// Moves a connection to its tenant's places. Returns the connection that has to end for it.
    ///
    /// # Errors
    /// If there is no place. Then the connection keeps the one that it has.
    pub(crate) fn prove(&mut self, id: Id, tenant: &Tenant) -> Result<Option<Id>, Full> {
        match self.held.get(&id) {
            // The connection has ended meanwhile.
            None => return Ok(None),
            Some(Holder::Tenant { tenant: before, .. }) if before == tenant => return Ok(None),
            Some(_) => {}
        }
        let own: Vec<Id> = self.of(tenant).into_iter().flatten().copied().collect();
        let new = own.iter().filter(|id| matches!(self.held.get(id), Some(Holder::Tenant { begun: false, .. })));
        let full = match tenant.who {
            Who::Token(_) => own.len() >= self.room.of_token,
            Who::Runner(_) | Who::Relay(_) => {
                own.len() >= self.room.of_runner || new.count() >= self.room.of_runner_new
            }
        };
        if full {
            return Err(Full::Own);
        }
        let gone = if self.held.len() - self.strangers >= self.room.tenants {
            Some(self.most_of_the_largest(tenant).ok_or(Full::All)?)
        } else {
            None
        };
        self.leave(id);
        if let Some(gone) = gone {
            self.leave(gone);
        }
        self.held.insert(id, Holder::Tenant { tenant: tenant.clone(), begun: false });
        self.teams.entry(tenant.team.clone()).or_default().entry(tenant.who).or_default().insert(id);
        Ok(gone)
    }

    /// A runner's stream has begun.
    pub(crate) fn begin(&mut self, id: Id) {
        if let Some(Holder::Tenant { begun, .. }) = self.held.get_mut(&id) {
            *begun = true;
        }
    }

    /// A connection has ended.
    pub(crate) fn leave(&mut self, id: Id) {
        match self.held.remove(&id) {
            Some(Holder::Stranger { address, .. }) => {
                self.strangers -= 1;
                if let Some(held) = self.addresses.get_mut(&address) {
                    held.remove(&id);
                    if held.is_empty() {
                        self.addresses.remove(&address);
                    }
                }
            }
            Some(Holder::Tenant { tenant, .. }) => {
                let Some(team) = self.teams.get_mut(&tenant.team) else { return };
                if let Some(held) = team.get_mut(&tenant.who) {
                    held.remove(&id);
                    if held.is_empty() {
                        team.remove(&tenant.who);
                    }
                }
                if team.is_empty() {
                    self.teams.remove(&tenant.team);
                }
            }
            None => {}
        }
    }

    fn of(&self, tenant: &Tenant) -> Option<&BTreeSet<Id>> {
        self.teams.get(&tenant.team)?.get(&tenant.who)
    }

    /// The connection of this address with the least progress, and of those the oldest.
    fn least_of(&self, address: IpAddr) -> Option<Id> {
        let stage = |id: &Id| match self.held.get(id) {
            Some(Holder::Stranger { stage, .. }) => *stage,
            _ => Stage::Busy,
        };
        self.addresses.get(&address)?.iter().min_by_key(|id| (stage(id), **id)).copied()
    }

    /// The newest connection of the largest holder in the largest team, if that is larger than `tenant` would be.
    fn most_of_the_largest(&self, tenant: &Tenant) -> Option<Id> {
        let count = |team: &Team| team.values().map(BTreeSet::len).sum::<usize>();
        let (name, largest) = self.teams.iter().max_by_key(|(_, team)| count(team))?;
        let (_, most) = largest.iter().max_by_key(|(_, held)| held.len())?;
        let fits = if *name == tenant.team {
            most.len() > self.of(tenant).map_or(0, BTreeSet::len) + 1
        } else {
            count(largest) > self.teams.get(&tenant.team).map_or(0, count) + 1
        };
        if fits { most.last().copied() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use mesh_proto::{RunnerId, TokenId};

    use super::*;

    const ROOM: Room =
        Room { strangers: 100, of_address: 64, tenants: 12, of_token: 8, of_runner: 4, of_runner_new: 2 };

    fn address(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    fn token(team: &str, id: u64) -> Tenant {
        Tenant { team: team.into(), who: Who::Token(TokenId(id)) }
    }

    fn runner(id: u64) -> Tenant {
        Tenant { team: "".into(), who: Who::Runner(RunnerId(id)) }
    }

    /// A new connection that has presented a good credential.
    fn proven(places: &mut Places, tenant: &Tenant) -> Result<Id, Full> {
        let (id, _) = places.enter(address(999));
        let proved = places.prove(id, tenant);
        if proved.is_err() {
            places.leave(id);
        }
        proved.map(|_| id)
    }

    #[test]
    fn one_address_has_no_more_than_its_places_and_a_newcomer_gets_one_of_them() {
        let mut places = Places::new(ROOM);
        let ids: Vec<Id> = (0..64).map(|_| places.enter(address(1)).0).collect();
        for id in &ids[..10] {
            places.reach(*id, Stage::Idle);
        }
        let (newest, gone) = places.enter(address(1));
        assert_eq!(gone, Some(ids[10]), "the oldest of those that said nothing");
        places.reach(newest, Stage::Handshake);
        for _ in 0..200 {
            places.enter(address(1));
        }
        assert!(places.held.contains_key(&newest), "one that speaks stays before those that don't");
        assert_eq!((places.strangers, places.addresses[&address(1)].len()), (64, 64));
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert!(places.enter(mapped).1.is_some(), "the same address");
        assert!(places.enter(address(2)).1.is_none(), "another one");
    }

    #[test]
    fn a_64_counts_as_one_address() {
        let mut places = Places::new(ROOM);
        for n in 0..70_u128 {
            places.enter(IpAddr::V6((0x2001_0db8_u128 << 96 | n).into()));
        }
        assert_eq!(places.strangers, 64);
    }

    #[test]
    fn where_all_are_taken_the_address_with_the_most_gives_way() {
        let mut places = Places::new(ROOM);
        for _ in 0..60 {
            places.enter(address(1));
        }
        for n in 0..200 {
            places.enter(address(100 + n));
        }
        assert_eq!(places.strangers, 100);
        assert!((199..200).all(|n| places.addresses.contains_key(&address(100 + n))));
        assert_eq!(places.addresses.values().map(BTreeSet::len).max(), Some(1), "they are shared out evenly");
    }

    #[test]
    fn who_has_proved_a_credential_takes_no_strangers_place_and_loses_none_to_them() {
        let mut places = Places::new(ROOM);
        let mine = proven(&mut places, &token("a", 1)).unwrap();
        for _ in 0..300 {
            places.enter(address(999));
        }
        assert!(places.held.contains_key(&mine));
        places.leave(mine);
        assert!(places.teams.is_empty());
    }

    #[test]
    fn a_runner_has_few_streams_and_fewer_that_have_not_begun() {
        let mut places = Places::new(ROOM);
        let streams = [proven(&mut places, &runner(1)).unwrap(), proven(&mut places, &runner(1)).unwrap()];
        assert_eq!(proven(&mut places, &runner(1)), Err(Full::Own));
        places.begin(streams[0]);
        let third = proven(&mut places, &runner(1)).unwrap();
        [streams[1], third].into_iter().for_each(|id| places.begin(id));
        proven(&mut places, &runner(1)).unwrap();
        assert_eq!(proven(&mut places, &runner(1)), Err(Full::Own));
        proven(&mut places, &runner(2)).unwrap();
        assert_eq!(places.addresses.len(), 0, "none is left behind");
    }

    #[test]
    fn a_team_that_asks_for_little_gets_it_beside_one_that_takes_all() {
        let mut places = Places::new(ROOM);
        let loud: Vec<_> = (0..40).map(|n| proven(&mut places, &token("loud", n % 5))).collect();
        assert_eq!(loud.iter().filter(|place| place.is_ok()).count(), 12);
        assert!(loud.contains(&Err(Full::All)) && proven(&mut places, &token("loud", 1)) == Err(Full::All));
        for _ in 0..6 {
            proven(&mut places, &token("quiet", 99)).unwrap();
        }
        assert_eq!(proven(&mut places, &token("quiet", 99)), Err(Full::All), "half and half");
        assert_eq!(places.held.len(), 12);
    }
}
