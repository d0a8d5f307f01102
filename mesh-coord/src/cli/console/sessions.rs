//! The sessions of browsers: bounded in number and in time. Pure: the time is passed in.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use mesh_proto::SecretHash;
use sha2::{Digest as _, Sha256};

/// How long a session may rest.
const IDLE: Duration = Duration::from_mins(30);
/// How long a session lasts.
const LONGEST: Duration = Duration::from_hours(12);
/// The most sessions at once.
const MOST: usize = 256;
/// The most sessions of one owner.
const EACH: usize = 16;

/// A random text. Two are compared in constant time.
pub(super) type Random = SecretHash;

/// What is kept of a cookie: who reads this memory can't make the cookie of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id([u8; 32]);

impl Id {
    fn of(cookie: &str) -> Self {
        Self(Sha256::digest(cookie).into())
    }
}

/// The sessions. `T` is what one holds.
#[derive(Debug)]
pub(super) struct Sessions<T>(HashMap<Id, Session<T>>);

/// A session.
#[derive(Debug)]
pub(super) struct Session<T> {
    began: Instant,
    last: Instant,
    /// Whose it is.
    owner: u64,
    /// What its forms have to hold.
    pub(super) proof: Random,
    /// What it holds.
    pub(super) held: T,
}

impl<T> Default for Sessions<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Sessions<T> {
    /// Begins a session. Where there are too many, one of the owner's, or of the owner with the most, ends: the one that
    /// has rested longest.
    pub(super) fn open(&mut self, cookie: &str, proof: Random, (owner, held): (u64, T), now: Instant) {
        self.0.retain(|_, session| session.lasts(now));
        let mut counts: HashMap<u64, usize> = HashMap::new();
        self.0.values().for_each(|session| *counts.entry(session.owner).or_default() += 1);
        let most = counts.values().max().copied().unwrap_or_default();
        if counts.get(&owner).is_some_and(|own| *own >= EACH) {
            self.end_one(|of| of == owner);
        } else if self.0.len() >= MOST {
            self.end_one(|of| counts.get(&of) == Some(&most));
        }
        self.0.insert(Id::of(cookie), Session { began: now, last: now, owner, proof, held });
    }

    /// The session of one of these cookies, which is in use now.
    pub(super) fn find<'a>(
        &mut self,
        cookies: impl IntoIterator<Item = &'a str>,
        now: Instant,
    ) -> Option<(Id, &Session<T>)> {
        let id = cookies.into_iter().map(Id::of).find(|id| self.0.contains_key(id))?;
        let session = self.0.get_mut(&id).filter(|session| session.lasts(now));
        let Some(session) = session else {
            self.0.remove(&id);
            return None;
        };
        session.last = now;
        self.0.get(&id).map(|session| (id, session))
    }

    /// Ends a session.
    pub(super) fn close(&mut self, id: Id) {
        self.0.remove(&id);
    }

    /// Ends that of these owners' sessions which has rested longest.
    fn end_one(&mut self, is_owner: impl Fn(u64) -> bool) {
        let own = self.0.iter().filter(|(_, session)| is_owner(session.owner));
        if let Some(id) = own.min_by_key(|(_, session)| session.last).map(|(id, _)| *id) {
            self.0.remove(&id);
        }
    }
}

impl<T> Session<T> {
    fn lasts(&self, now: Instant) -> bool {
        now < self.last + IDLE && now < self.began + LONGEST
    }
}

/// Whether a text is this random one.
pub(super) fn is(text: &str, random: &Random) -> bool {
    Random::try_from(text.to_owned()).is_ok_and(|text| text == *random)
}

#[cfg(test)]
mod tests {
    use mesh_proto::Secret;

    use super::*;

    fn random(number: u8) -> Random {
        Secret::from_bytes([number; 32]).hash()
    }

    fn open(sessions: &mut Sessions<u8>, cookie: &str, owner: u64, now: Instant) {
        sessions.open(cookie, random(1), (owner, 7), now);
    }

    #[test]
    fn a_session_ends_when_it_rests_and_after_twelve_hours() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        open(&mut sessions, "a", 1, now);
        assert!(sessions.find(["b", "x"], now).is_none());
        let mut later = now;
        for _ in 0..24 {
            later += IDLE - Duration::from_secs(1);
            assert!(sessions.find(["b", "a"], later).is_some_and(|(_, session)| session.held == 7));
        }
        assert!(sessions.find(["a"], later + Duration::from_secs(30)).is_none(), "twelve hours are over");
        open(&mut sessions, "a", 1, now);
        assert!(sessions.find(["a"], now + IDLE).is_none() && sessions.find(["a"], now).is_none());
    }

    #[test]
    fn a_closed_session_is_none() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        open(&mut sessions, "a", 1, now);
        let (id, _) = sessions.find(["a"], now).unwrap();
        sessions.close(id);
        assert!(sessions.find(["a"], now).is_none());
    }

    #[test]
    fn one_owner_of_many_sessions_ends_its_own_only() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        open(&mut sessions, "quiet", 1, now);
        for number in 0..3 * EACH {
            open(&mut sessions, &format!("loud-{number}"), 2, now + Duration::from_secs(number as u64));
        }
        let of = |sessions: &Sessions<u8>, owner| sessions.0.values().filter(|session| session.owner == owner).count();
        assert_eq!((of(&sessions, 1), of(&sessions, 2)), (1, EACH));
        for owner in 3..2 * MOST as u64 {
            open(
                &mut sessions,
                &format!("many-{owner}"),
                owner,
                now + Duration::from_mins(5) + Duration::from_secs(owner),
            );
        }
        assert_eq!((sessions.0.len(), of(&sessions, 2)), (MOST, 0));
        assert!(sessions.find(["many-511"], now + Duration::from_mins(14)).is_some(), "the latest stays");
    }

    #[test]
    fn texts_are_compared_whole() {
        let text = String::from(random(1));
        assert!(is(&text, &random(1)) && !is(&text, &random(2)) && !is("", &random(1)) && !is(&text[1..], &random(1)));
    }
}
