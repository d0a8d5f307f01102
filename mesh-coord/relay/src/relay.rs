//! The facade: what a relay is set up with, and the changes that authentic clients ask for.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
};

use mesh_proto::relay::{Pseudonym, RelaySecret};
use turn_types::attribute::{Lifetime, XorRelayedAddress};

mod carry;
mod judge;

pub use judge::{Asked, Change};
use judge::{Family, Wish};

use crate::{
    allocation::{Allocation, Channels, Unbound},
    counters::Counters,
    limits::{LIFETIME, Limits, PERMISSION, REVOKED},
    nonce::Nonces,
    share::Spent,
    strangers::Strangers,
    table::Table,
    time::Now,
    way::{Client, Way},
};

/// What a relay is set up with.
pub struct Settings {
    /// What it shares with who hands out its credentials.
    pub secret: RelaySecret,
    /// The addresses of its relayed addresses: at most one of each family, the one for clients that ask for none first.
    pub public: Vec<IpAddr>,
    /// Its bounds.
    pub limits: Limits,
    /// A random key, another one for each process.
    pub nonce_key: [u8; 32],
}

/// A relay's state.
pub struct Relay {
    secret: RelaySecret,
    public: Vec<IpAddr>,
    nonces: Nonces,
    strangers: Strangers,
    table: Table,
    /// What it has done.
    pub counters: Counters,
    limits: Limits,
    /// Until when, in seconds since 1970.
    revoked: HashMap<Pseudonym, u64>,
    /// When it knew last of all who were revoked, in seconds since 1970. 0: never.
    informed: u64,
}

/// What a change has led to.
#[derive(Debug, Default)]
pub struct Changed {
    /// The answer to the client.
    pub answer: Vec<u8>,
    /// Who has no allocation any more: its connection ends.
    pub ended: Option<Way>,
}

impl Relay {
    /// A relay without clients.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            secret: settings.secret,
            public: settings.public,
            nonces: Nonces::new(&settings.nonce_key),
            strangers: Strangers::new(),
            table: Table::default(),
            counters: Counters::default(),
            limits: settings.limits,
            revoked: HashMap::new(),
            informed: 0,
        }
    }

    /// Does what a client asks for, as far as there is room, and answers.
    pub fn change(&mut self, change: Change, now: Now) -> Changed {
        let done = match change.wish {
            Wish::Allocate { family } => self.allocate(&change, family, now),
            Wish::Refresh => self.refresh(&change, now),
            Wish::End => self.end(&change),
            Wish::Permit => self.permit(&change, now),
            Wish::Bind { number, peer } => self.bind(&change, number, peer, now),
        };
        match done {
            Ok(changed) => {
                self.counters.granted.add(1);
                changed
            }
            Err(code) => {
                self.counters.refused.add(1);
                Changed { answer: change.reply.error(code), ended: None }
            }
        }
    }

    /// One allocation a pseudonym: the newest replaces what was, also on the same address, so that no client has to wait
    /// for the end of what an earlier process had. It gets the same relayed address.
    fn allocate(&mut self, change: &Change, family: Option<Family>, now: Now) -> Result<Changed, u16> {
        let Change { from, name, reply, .. } = change;
        let ip = self.public_of(family).ok_or(440_u16)?;
        let made_by = reply.question.transaction;
        let is_repeated = |known: &&Allocation| known.name == *name && known.made_by == made_by;
        if let Some(known) = self.table.of(from.client()).filter(is_repeated) {
            let answer = allocated(change, known.relayed);
            return Ok(Changed { answer, ended: None });
        }
        let replaces = self.table.holds(*name) || self.knows(from.client());
        if !replaces && self.table.len() >= self.limits.allocations.min(usize::from(u16::MAX / 2)) {
            return Err(508);
        }
        let relayed = SocketAddr::new(ip, self.table.port_for(*name));
        self.table.remove_client(from.client());
        let before = self.table.remove_name(*name);
        self.table.insert(Allocation {
            name: *name,
            way: *from,
            relayed,
            made_by,
            until: now.seconds().saturating_add(LIFETIME),
            permitted: 0,
            channels: Channels::default(),
            spent: Spent::default(),
        });
        Ok(Changed { answer: allocated(change, relayed), ended: before.map(|before| before.way) })
    }

    fn refresh(&mut self, change: &Change, now: Now) -> Result<Changed, u16> {
        let until = now.seconds().saturating_add(LIFETIME);
        self.mine(change, |allocation| allocation.until = until)?;
        Ok(Changed { answer: change.reply.success(&[&Lifetime::new(LIFETIME)]), ended: None })
    }

    fn end(&mut self, change: &Change) -> Result<Changed, u16> {
        self.mine(change, |_| ())?;
        self.table.remove_client(change.from.client());
        Ok(Changed { answer: change.reply.success(&[&Lifetime::new(0)]), ended: None })
    }

    fn permit(&mut self, change: &Change, now: Now) -> Result<Changed, u16> {
        let until = now.seconds().saturating_add(PERMISSION);
        self.mine(change, |allocation| allocation.permitted = until)?;
        Ok(Changed { answer: change.reply.success(&[]), ended: None })
    }

    fn bind(&mut self, change: &Change, number: u16, peer: SocketAddr, now: Now) -> Result<Changed, u16> {
        let seconds = now.seconds();
        // Only other allocations of this relay are peers.
        let owner = self.table.at(peer.port()).filter(|other| other.relayed == peer).map(Allocation::owner);
        let owner = owner.ok_or(403_u16)?;
        let free = self.limits.all_channels.saturating_sub(self.table.channels());
        let (most, channel) = (self.limits.channels, (number, peer.port(), owner));
        self.mine(change, |allocation| {
            // None has more than what is still free.
            let held = allocation.channels.len();
            let room = if held < free.min(most) { held + 1 } else { held };
            let bound = allocation.channels.bind(channel, (seconds, seconds.saturating_add(LIFETIME)), room);
            if bound.is_ok() {
                allocation.permitted = allocation.permitted.max(seconds.saturating_add(PERMISSION));
            }
            bound
        })?
        .map_err(|unbound| match unbound {
            Unbound::Conflict => 400_u16,
            Unbound::Full => 486,
        })?;
        Ok(Changed { answer: change.reply.success(&[]), ended: None })
    }

    /// Changes the client's allocation, if it still is its.
    fn mine<T>(&mut self, change: &Change, with: impl FnOnce(&mut Allocation) -> T) -> Result<T, u16> {
        let client = change.from.client();
        if self.table.of(client).is_none_or(|allocation| allocation.name != change.name) {
            return Err(437);
        }
        self.table.change(client, with).ok_or(437)
    }

    fn public_of(&self, family: Option<Family>) -> Option<IpAddr> {
        let fits = |ip: &&IpAddr| match family {
            None => true,
            Some(Family::V4) => ip.is_ipv4(),
            Some(Family::V6) => ip.is_ipv6(),
        };
        self.public.iter().find(fits).copied()
    }

    /// Refuses a pseudonym until then, in seconds since 1970, and ends its allocation at once. Returns whose connection
    /// ends.
    pub fn revoke(&mut self, name: Pseudonym, until: u64) -> Option<Way> {
        if self.revoked.len() >= REVOKED && !self.revoked.contains_key(&name) {
            let soonest = self.revoked.iter().min_by_key(|(_, until)| **until).map(|(name, _)| *name);
            soonest.and_then(|name| self.revoked.remove(&name));
        }
        let known = self.revoked.entry(name).or_default();
        *known = until.max(*known);
        self.table.remove_name(name).map(|allocation| allocation.way)
    }

    /// It knows now of all whose credentials are good and who are revoked. Whose credentials have ended by now could have
    /// new ones, unless it was removed.
    pub fn inform(&mut self, now: Now) {
        self.informed = now.unix;
    }

    /// What is revoked, and until when.
    pub fn revoked(&self) -> impl Iterator<Item = (Pseudonym, u64)> {
        self.revoked.iter().map(|(name, until)| (*name, *until))
    }

    fn is_revoked(&self, name: Pseudonym, now: Now) -> bool {
        self.revoked.get(&name).is_some_and(|until| *until > now.unix)
    }

    /// A connection has ended, and its allocation with it.
    pub fn gone(&mut self, client: Client) {
        self.table.remove_client(client);
    }

    /// Removes what has run out, every few seconds. Returns whose connections end.
    pub fn sweep(&mut self, now: Now) -> Vec<Way> {
        self.revoked.retain(|_, until| *until > now.unix);
        self.table.remove_ended(now.seconds()).into_iter().map(|allocation| allocation.way).collect()
    }

    /// How many allocations and channels there are.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.table.len(), self.table.channels())
    }
}

/// Without secrets.
impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("size", &self.size()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("public", &self.public).field("limits", &self.limits).finish_non_exhaustive()
    }
}

fn allocated(change: &Change, relayed: SocketAddr) -> Vec<u8> {
    let transaction = change.reply.question.transaction;
    let mapped = stun_types::attribute::XorMappedAddress::new(change.from.remote(), transaction);
    let relayed = XorRelayedAddress::new(relayed, transaction);
    change.reply.success(&[&relayed, &mapped, &Lifetime::new(LIFETIME)])
}
