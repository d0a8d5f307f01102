//! Random things happen one after another, and after each of them the runners reach each other.

use std::time::Duration;

use super::world::World;
use crate::{Failure, nat::Kind};

const SECOND: Duration = Duration::from_secs(1);

/// How long it may take until everything is as it should be again: a relay is asked every four seconds, a box that was
/// spoilt has to be quiet for thirty, and silence on a way to a relay is noticed after twenty-five.
const SETTLED: Duration = Duration::from_secs(40);

/// How many changes of path a thing that happens may lead to, of each runner.
const CHANGES: usize = 4;

impl World {
    /// Random things happen one after another.
    pub(super) fn life(&mut self) -> Result<(), Failure> {
        self.patience = Duration::MAX;
        for _ in 0..8 {
            let before = self.seen.changes.len();
            self.writing(SECOND / 4, 600);
            // One thing happens while the coordinator is away. (After two, neither may know where the other one is.)
            let was_away = self.away;
            let things = self.something()?;
            self.run(SETTLED)?;
            self.check_reach()?;
            if was_away {
                self.away = false;
                self.note("the coordinator is back");
                (0..2).for_each(|runner| self.publish(runner));
            }
            let changes = self.seen.changes.len() - before;
            if changes > 2 * CHANGES * things {
                let words = format!("the paths changed {changes} times: {:?}", &self.seen.changes[before..]);
                return Err(self.failure(&words));
            }
        }
        self.complete(self.patience_of_transfers())
    }

    /// *Reach*: new connections are opened, and what was written on the others arrives.
    fn check_reach(&mut self) -> Result<(), Failure> {
        if !self.relays.iter().any(|relay| relay.serves(0) && relay.serves(1)) {
            return Err(self.failure("no relay serves both"));
        }
        let retries = match self.loss {
            [0, 0] => 2 * SECOND,
            [100, _] | [_, 100] => 60 * SECOND,
            _ => self.patience_of_transfers(),
        };
        self.call_both(self.late(2 * self.by_relay()) + retries)?;
        self.complete(self.patience_of_transfers())
    }

    /// How long what was written may take to arrive. TCP waits twice as long each time that a segment gets lost again.
    fn patience_of_transfers(&self) -> Duration {
        match self.loss {
            [0, 0] => 2 * SETTLED,
            [100, _] | [_, 100] => 20 * SETTLED,
            // Loss is no reason to leave a path, so that TCP has to get over it. How many tries that takes is its luck.
            _ => 200 * SETTLED,
        }
    }

    /// Returns how many things have happened.
    fn something(&mut self) -> Result<usize, Failure> {
        let side = self.rng.below(2) as usize;
        match self.rng.below(7) {
            0 => self.roam(side)?,
            1 => {
                let relay = self.rng.below(2) as usize;
                if self.relays[1 - relay].is_up && self.relays[relay].is_up {
                    self.kill(relay);
                } else {
                    self.relays.iter_mut().for_each(|relay| relay.rise());
                    self.note("all relays are up");
                }
            }
            2 => {
                self.away = true;
                self.note("the coordinator is away");
            }
            3 => self.flush(side),
            4 => {
                self.loss[side] = if self.loss[side] == 0 { 30 + 70 * self.rng.below(2) } else { 0 };
                self.loss[side] = self.loss[side].min(100);
                self.note(&format!("directly lost: {:?}", self.loss));
            }
            5 => {
                self.complete(self.patience_of_transfers())?;
                let pause = SECOND * (20 + self.rng.below(400) as u32);
                self.note(&format!("silence for {pause:?}"));
                self.run(pause)?;
                self.writing(SECOND / 4, 600);
            }
            _ if self.away => self.flush(side),
            _ => {
                let both = Duration::from_secs(self.rng.below(4));
                self.flush(0);
                self.run(both)?;
                self.flush(1);
                return Ok(2);
            }
        }
        Ok(1)
    }

    /// A runner is somewhere else from now on, perhaps connected in another way.
    fn roam(&mut self, side: usize) -> Result<(), Failure> {
        let kind = self.rng.pick(&Kind::ALL).copied().unwrap_or(Kind::Public);
        self.roam_to(side, kind)
    }

    pub(super) fn roam_to(&mut self, side: usize, kind: Kind) -> Result<(), Failure> {
        self.note(&format!("{side} is somewhere else, {kind:?}"));
        self.places.seats[side] = self.a_seat(side as u8, kind);
        self.connect_to_relays(side);
        self.allocations_changed(side)?;
        self.engine(side, |engine, _| engine.handle_address_change())
    }
}
