//! What has happened to an attempt to connect so far.

use super::end::Location;

/// What is needed to move an attempt.
pub(crate) struct Attempt {
    /// The SYN, in the format of a TUN's read.
    pub(crate) syn: Vec<u8>,
    /// The locations that have refused it.
    refused: Vec<Location>,
    /// The locations that didn't answer; twice if it happened twice.
    unanswered: Vec<Location>,
}

impl Attempt {
    pub(super) const fn new(syn: Vec<u8>) -> Self {
        Self { syn, refused: vec![], unanswered: vec![] }
    }

    pub(crate) fn note_unanswered(&mut self, location: Location) {
        if !self.is_given_up(location) {
            self.unanswered.push(location);
        }
    }

    pub(crate) fn note_refused(&mut self, location: Location) {
        if !self.refused.contains(&location) {
            self.refused.push(location);
        }
    }

    /// Whether it didn't answer twice. Once may have been a lost packet.
    fn is_given_up(&self, location: Location) -> bool {
        self.unanswered.iter().filter(|at| **at == location).count() > 1
    }

    /// Every location that has had the attempt.
    pub(crate) fn tried(&self) -> Vec<Location> {
        [&self.refused[..], &self.unanswered].concat()
    }

    /// The locations that won't accept it.
    pub(crate) fn hopeless(&self) -> Vec<Location> {
        let given_up = self.unanswered.iter().copied().filter(|location| self.is_given_up(*location));
        self.refused.iter().copied().chain(given_up).collect()
    }
}
