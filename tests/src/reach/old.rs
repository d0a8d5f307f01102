//! One of the runners has an agent of 0.1. Nothing is between it and the other one that 0.1 can't cope with: one of them is
//! reached by everyone.

use std::time::Duration;

use super::{scenes::LINE, world::World};
use crate::{Failure, nat::Kind};

const SECOND: Duration = Duration::from_secs(1);

/// How long it takes until the runners have found each other again.
const SETTLED: Duration = Duration::from_secs(30);

impl World {
    /// They reach each other as ever, whatever happens, and the agent of 0.1 is sent nothing that it doesn't know.
    pub(super) fn beside_old(&mut self) -> Result<(), Failure> {
        // 0.1 takes links for as long as the runners' interfaces say.
        self.longest = 1500;
        self.settle()?;
        let caller = self.public().map_or(0, |public| 1 - public);
        let first = self.call(caller)?;
        let bound = self.late(2 * self.directly());
        self.until(bound, "an answer to the first SYN", |world| world.streams[first].open)?;
        self.call_both(bound)?;
        self.writing(LINE.0, LINE.1);
        self.run(20 * SECOND)?;
        for _ in 0..6 {
            self.something_old()?;
            self.run(SETTLED)?;
            self.call_both(bound_of(self))?;
            self.complete(2 * SETTLED)?;
            self.writing(LINE.0, LINE.1);
        }
        self.complete(2 * SETTLED)?;
        match self.seen.unknown {
            Some(hop) => {
                Err(self.failure(&format!("an agent of 0.1 was sent a ping, or something by a relay: to {hop}")))
            }
            None => Ok(()),
        }
    }

    /// The runner that is reached by everyone.
    fn public(&self) -> Option<usize> {
        (0..2).find(|runner| self.places.before(*runner).is_empty())
    }

    fn something_old(&mut self) -> Result<(), Failure> {
        let side = self.rng.below(2) as usize;
        match self.rng.below(4) {
            0 => {
                let is_free = self.public().is_some_and(|public| public != side);
                let kinds = if is_free { &Kind::ALL[..6] } else { &Kind::ALL[..1] };
                let kind = self.rng.pick(kinds).copied().unwrap_or(Kind::Public);
                self.roam_to(side, kind)
            }
            1 => {
                self.flush(side);
                Ok(())
            }
            2 => {
                let is_up = self.relays[0].is_up;
                if is_up {
                    self.kill(0)
                } else {
                    self.relays[0].rise()
                }
                Ok(())
            }
            _ => {
                self.complete(2 * SETTLED)?;
                let pause = SECOND * (20 + self.rng.below(400) as u32);
                self.note(&format!("silence for {pause:?}"));
                self.run(pause)?;
                self.writing(LINE.0, LINE.1);
                Ok(())
            }
        }
    }
}

/// How long a connection may take where a handshake may have to be made first.
fn bound_of(world: &World) -> Duration {
    world.late(2 * world.directly()) + 2 * SECOND
}
