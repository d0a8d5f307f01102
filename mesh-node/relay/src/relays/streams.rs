//! The connections of relays, which the owner makes.

use std::time::Instant;

use mesh_proto::RelayId;

use super::{
    Relays, Wish,
    entry::{Entry, Work},
};
use crate::{Inflow, Malformed, Run};

impl Relays {
    /// A connection with a relay stands. Returns whether it is wanted: else it is to be closed.
    pub fn handle_connected(&mut self, relay: RelayId, now: Instant) -> bool {
        let entry = self.entries.iter_mut().find(|entry| entry.config.id == relay);
        let Some(Entry { config, work: Work::Holding(holding), .. }) = entry else { return false };
        holding.handle_connected(config, now)
    }

    /// The connection with a relay has ended, or could not be made.
    pub fn handle_disconnected(&mut self, relay: RelayId, now: Instant) {
        let entry = self.entries.iter_mut().find(|entry| entry.config.id == relay);
        if let Some(Entry { config, work: Work::Holding(holding), .. }) = entry {
            self.changed |= holding.handle_disconnected(config, now).any;
        }
    }

    /// The next datagrams of a peer in what has come by a connection, and the bytes that they are in. Answers of the relay
    /// are handled on the way.
    ///
    /// # Errors
    /// If that is no relay's stream: the connection has to be closed, and [`Relays::handle_disconnected`] called.
    pub fn next_of_stream<'a>(
        &mut self,
        relay: RelayId,
        inflow: &'a mut Inflow,
        now: Instant,
    ) -> Result<Option<(Run, &'a mut [u8])>, Malformed> {
        let entry = self.entries.iter_mut().find(|entry| entry.config.id == relay);
        let Some(Entry { work: Work::Holding(holding), .. }) = entry else { return Ok(None) };
        let Some(allocation) = holding.stream() else { return Ok(None) };
        let run = inflow.next(allocation, now)?;
        if run.is_some() {
            self.homes.used(relay, now);
        }
        Ok(run)
    }

    /// Draws the conclusions of what has come by connections.
    pub fn settle(&mut self, now: Instant) {
        self.take_events(now);
    }

    /// What is to be done with the connection of a relay.
    pub fn poll_wish(&mut self) -> Option<(RelayId, Wish)> {
        if let Some(relay) = self.closings.pop() {
            return Some((relay, Wish::Close));
        }
        self.entries.iter_mut().find_map(|entry| match &mut entry.work {
            Work::Holding(holding) => Some((entry.config.id, holding.poll_wish()?)),
            Work::Nothing | Work::Looking(_) => None,
        })
    }
}
