//! The coordinators on the same records, as each of them knows them by their signs of life.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use mesh_model::record::MemberId;

/// How old the last sign of life may be.
const FRESH: Duration = Duration::from_secs(4);
/// How long those that have gone are remembered.
const REMEMBERED: Duration = Duration::from_secs(600);

/// What a coordinator tells of itself with each sign of life.
pub trait Sign {
    /// The number of its signs of life.
    fn beat(&self) -> u64;
}

/// A coordinator, as another one knows it.
#[derive(Debug, Clone)]
pub struct Member<C> {
    /// Its identifier.
    pub id: MemberId,
    /// When it has taken its place: earlier ones have the duties.
    since: i64,
    /// What it tells of itself.
    pub card: C,
    /// When its last sign of life was seen.
    pub heard: Instant,
    /// Whether it has no place any more.
    pub is_gone: bool,
}

impl<C> Member<C> {
    /// Whether it has given a sign of life lately.
    #[must_use]
    pub fn is_fresh(&self, now: Instant) -> bool {
        !self.is_gone && now.saturating_duration_since(self.heard) <= FRESH
    }
}

/// All coordinators, as `me` knows them.
#[derive(Debug)]
pub struct Members<C> {
    me: MemberId,
    known: Vec<Member<C>>,
}

impl<C: Sign> Members<C> {
    /// None is known yet.
    #[must_use]
    pub const fn new(me: MemberId) -> Self {
        Self { me, known: Vec::new() }
    }

    /// Takes in who has a place now, since when, and what it tells.
    pub fn take_in(&mut self, seated: Vec<(MemberId, i64, C)>, now: Instant) {
        self.known.retain(|member| now.saturating_duration_since(member.heard) < REMEMBERED);
        for member in &mut self.known {
            member.is_gone = !seated.iter().any(|(id, ..)| *id == member.id);
        }
        for (id, since, card) in seated {
            match self.known.iter_mut().find(|member| member.id == id) {
                Some(member) if member.card.beat() == card.beat() && id != self.me => member.since = since,
                Some(member) => *member = Member { id, since, card, heard: now, is_gone: false },
                None => self.known.push(Member { id, since, card, heard: now, is_gone: false }),
            }
        }
    }

    /// All that are known, also those that have gone a while ago.
    #[must_use]
    pub fn all(&self) -> &[Member<C>] {
        &self.known
    }

    /// Those that have a place.
    #[must_use]
    pub fn living(&self) -> BTreeSet<MemberId> {
        self.known.iter().filter(|member| !member.is_gone).map(|member| member.id).collect()
    }

    /// Whether this one has the duties of which one is enough: of these, it has had its place for the longest time. Two
    /// can have them for a moment, which does no harm.
    #[must_use]
    pub fn is_first(&self, of: impl Fn(&C) -> bool, now: Instant) -> bool {
        let living = self.known.iter().filter(|member| !member.is_gone && of(&member.card));
        let first = living.min_by_key(|member| (member.since, member.id));
        first.is_some_and(|member| member.id == self.me && member.is_fresh(now))
    }
}
