//! What an attempt to connect has come to so far.

use super::Seat;

/// What an attempt needs to be moved.
pub(crate) struct Attempt {
    /// The SYN, as a TUN's read gives it.
    pub(crate) syn: Vec<u8>,
    /// Who has refused it.
    refused: Vec<Seat>,
    /// Who had it and has not answered, twice those that it came back to.
    left: Vec<Seat>,
}

impl Attempt {
    /// One that has just begun.
    pub(super) const fn new(syn: Vec<u8>) -> Self {
        Self { syn, refused: vec![], left: vec![] }
    }

    /// Notes who has not answered.
    pub(crate) fn leave(&mut self, seat: Seat) {
        if !self.is_given_up(seat) {
            self.left.push(seat);
        }
    }

    /// Notes who has refused.
    pub(crate) fn refuse(&mut self, seat: Seat) {
        if !self.refused.contains(&seat) {
            self.refused.push(seat);
        }
    }

    /// Whether it was left to itself twice: once may have been a lost packet.
    fn is_given_up(&self, seat: Seat) -> bool {
        self.left.iter().filter(|left| **left == seat).count() > 1
    }

    /// Who has had it, for whatever has become of it.
    pub(crate) fn tried(&self) -> Vec<Seat> {
        [&self.refused[..], &self.left].concat()
    }

    /// Those from whom nothing is to be hoped for.
    pub(crate) fn hopeless(&self) -> Vec<Seat> {
        let given_up = self.left.iter().copied().filter(|seat| self.is_given_up(*seat));
        self.refused.iter().copied().chain(given_up).collect()
    }
}
