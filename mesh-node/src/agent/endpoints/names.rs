//! What the names among the endpoints mean. A name that can't be resolved keeps the addresses that it had, for an hour.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use mesh_proto::relay::Place;
use tokio::time::Instant;

/// How long a name that can't be resolved keeps its addresses.
pub(super) const KEPT: Duration = Duration::from_secs(3600);

/// The names, and what is known of them.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<Place, Name>);

#[derive(Debug, Default)]
struct Name {
    /// Sorted, since resolvers shuffle them, and when they were found.
    addresses: Vec<SocketAddr>,
    found: Option<Instant>,
    /// Why they could not be found again.
    error: Option<String>,
}

/// What a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// The first answer is on its way.
    Unasked,
    /// These addresses.
    Addresses(&'a [SocketAddr]),
    /// These addresses, when it was last resolved; that fails now.
    Earlier(&'a [SocketAddr], &'a str),
    /// Nothing: it can't be resolved.
    Nothing(&'a str),
}

impl Names {
    /// Forgets all names but these.
    pub(super) fn keep<'a>(&mut self, wanted: impl Iterator<Item = &'a Place> + Clone) {
        self.0.retain(|place, _| wanted.clone().any(|wanted| wanted == place));
    }

    /// A name was looked up.
    pub(super) fn learn(&mut self, place: Place, answer: Result<Vec<SocketAddr>, String>, now: Instant) {
        let name = self.0.entry(place).or_default();
        match answer {
            Ok(addresses) => {
                let canonical = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
                name.addresses = addresses.into_iter().map(canonical).collect();
                name.addresses.sort_unstable();
                name.addresses.dedup();
                (name.found, name.error) = (Some(now), None);
            }
            Err(error) => {
                if name.found.is_some_and(|found| now >= found + KEPT) {
                    (name.addresses, name.found) = (vec![], None);
                }
                name.error = Some(error);
            }
        }
    }

    /// What a name means.
    pub(super) fn of(&self, place: &Place) -> Meaning<'_> {
        let Some(Name { addresses, error, .. }) = self.0.get(place) else { return Meaning::Unasked };
        match error {
            None => Meaning::Addresses(addresses),
            Some(error) if addresses.is_empty() => Meaning::Nothing(error),
            Some(error) => Meaning::Earlier(addresses, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_fails_keeps_its_addresses_for_an_hour() {
        let (start, place) = (Instant::now(), "runner:1".parse::<Place>().unwrap());
        let mut names = Names::default();
        assert_eq!(names.of(&place), Meaning::Unasked);
        names.learn(place.clone(), Err("no such host".into()), start);
        assert_eq!(names.of(&place), Meaning::Nothing("no such host"));
        names.learn(place.clone(), Ok(at(&["192.0.2.9:1", "192.0.2.1:1", "[::ffff:192.0.2.9]:1"])), start);
        let known = at(&["192.0.2.1:1", "192.0.2.9:1"]);
        assert_eq!(names.of(&place), Meaning::Addresses(&known));
        for seconds in [60, 3599] {
            names.learn(place.clone(), Err("no answer".into()), start + Duration::from_secs(seconds));
            assert_eq!(names.of(&place), Meaning::Earlier(&known, "no answer"));
        }
        names.learn(place.clone(), Ok(known.clone()), start + Duration::from_secs(3599));
        names.learn(place.clone(), Err("no answer".into()), start + KEPT);
        assert_eq!(names.of(&place), Meaning::Earlier(&known, "no answer"), "an hour from the last answer");
        names.learn(place.clone(), Err("no answer".into()), start + Duration::from_secs(3599) + KEPT);
        assert_eq!(names.of(&place), Meaning::Nothing("no answer"));
        names.learn(place.clone(), Ok(known.clone()), start + 3 * KEPT);
        assert_eq!(names.of(&place), Meaning::Addresses(&known));
        names.keep([].iter());
        assert_eq!(names.of(&place), Meaning::Unasked);
    }
}
