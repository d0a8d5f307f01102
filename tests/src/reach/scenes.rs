//! What happens, and how long that may take.

use std::time::Duration;

use super::{
    Between,
    world::{Carrier, World},
};
use crate::Failure;

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

/// How long it takes to notice that data goes unanswered: the silence, and a tick of the engine.
const NOTICED: Duration = Duration::from_millis(1750);

/// The quiet after which a spoilt box is as before, with the meeting then.
const QUIET: Duration = Duration::from_secs(45);

/// How long a direct path that fell silent is not used.
const SHUT: Duration = Duration::from_secs(10);

/// Two bursts of datagrams are further apart.
const APART: Duration = Duration::from_secs(5);

/// How often a program writes a line, and how much.
pub(super) const LINE: (Duration, u32) = (Duration::from_millis(200), 600);
/// The same under load.
const LOAD: (Duration, u32) = (Duration::from_millis(50), 5000);

impl World {
    /// What may be late, and a bit more.
    pub(super) fn late(&self, time: Duration) -> Duration {
        time + time * self.jitter as u32 / 1000 + 5 * MILLI
    }

    /// Both agents start, and one runner's program calls the other one's: the first packet is answered.
    pub(super) fn meet(&mut self) -> Result<(), Failure> {
        self.settle()?;
        let caller = self.rng.below(2) as usize;
        let first = self.call(caller)?;
        let bound = self.late(2 * self.by_relay());
        self.until(bound, "an answer to the first SYN", |world| world.streams[first].open)?;
        let made = self.seen.initiations.len();
        if made != 1 {
            return Err(self.failure(&format!("{made} initiations were made instead of one")));
        }
        let second = self.call(1 - caller)?;
        self.until(bound, "an answer to the second SYN", |world| world.streams[second].open)?;
        self.patience = NOTICED + 2 * self.by_relay();
        self.writing(LINE.0, LINE.1);
        Ok(())
    }

    fn carried(&self, is_so: impl Fn(Carrier) -> bool) -> bool {
        self.seen.carriers.iter().all(|carrier| carrier.is_some_and(&is_so))
    }

    /// They come to a direct path within some time.
    fn become_direct(&mut self, limit: Duration) -> Result<(), Failure> {
        self.until(limit, "a direct path", |world| world.carried(Carrier::is_direct))?;
        Ok(())
    }

    /// How long two runners that can come to a direct path take for it: a meeting, a short ping, a long one, and what
    /// programs write then.
    fn until_direct(&self, between: Between) -> Duration {
        let every = self.writes.map_or(Duration::ZERO, |(every, _)| every);
        let one = self.late(self.by_relay() + 3 * self.directly()) + 400 * MILLI + 2 * every;
        // Both sides begin within the one-way delay, or the first meeting may fail.
        let skew = self.by_relay() * self.jitter as u32 / 1000;
        if between.is_delicate() && skew >= self.directly() / 2 { one + QUIET } else { one }
    }

    /// They stay as what is between them has it.
    pub(super) fn stay(&mut self, between: Between, time: Duration) -> Result<(), Failure> {
        if between.is_direct() {
            self.become_direct(self.until_direct(between))?;
        }
        self.run(time)?;
        let direct = between.is_direct();
        if !self.carried(|carrier| carrier.is_direct() == direct) {
            let words = format!("data is carried by {:?}", self.seen.carriers);
            return Err(self.failure(&words));
        }
        let most = if direct { 2 } else { 0 };
        if self.seen.changes.len() > most {
            let words = format!("the paths changed without a reason: {:?}", self.seen.changes);
            return Err(self.failure(&words));
        }
        self.complete(5 * SECOND)
    }

    /// Each is at two relays of its own. They meet at one of these, whichever the other one reaches.
    pub(super) fn none_shared(&mut self, between: Between) -> Result<(), Failure> {
        // Of each side's relays, the other one may not reach the first or the second.
        for (relays, other) in [([0, 1], 1), ([2, 3], 0)] {
            if let Some(relay) = self.rng.pick(&[None, Some(relays[0]), Some(relays[1])]).copied().flatten() {
                self.relays[relay].barred = Some(other);
                self.note(&format!("{other} doesn't reach relay {relay}"));
            }
        }
        self.settle()?;
        let caller = self.rng.below(2) as usize;
        let first = self.call(caller)?;
        // An allocation at the first relay, a second later at the other one too, and then as ever.
        let bound = self.late(4 * self.by_relay()) + SECOND + SECOND / 2;
        self.until(bound, "an answer to the first SYN", |world| world.streams[first].open)?;
        self.call_both(bound)?;
        self.patience = NOTICED + 2 * self.by_relay();
        self.writing(LINE.0, LINE.1);
        if between.is_direct() {
            self.become_direct(self.until_direct(between) + QUIET)?;
        }
        self.run(30 * SECOND)?;
        if !self.carried(|carrier| carrier.is_direct() == between.is_direct()) {
            let words = format!("data is carried by {:?}", self.seen.carriers);
            return Err(self.failure(&words));
        }
        self.call_both(self.late(2 * self.by_relay()))?;
        self.complete(5 * SECOND)
    }

    /// How many bursts of direct datagrams there were since some time.
    fn bursts(&self, since: Duration) -> usize {
        let times: Vec<Duration> = self.seen.knocks.iter().map(|(at, _)| *at).filter(|at| *at >= since).collect();
        let apart = times.windows(2).filter(|two| two[1] - two[0] > APART).count();
        if times.is_empty() { 0 } else { apart + 1 }
    }

    /// They talk for twelve minutes, and then no longer.
    pub(super) fn stay_long(&mut self, between: Between) -> Result<(), Failure> {
        self.writing(SECOND, 600);
        self.stay(between, 120 * SECOND)?;
        let (first, since) = (self.bursts(Duration::ZERO), self.now);
        self.writing(SECOND, 600);
        self.run(600 * SECOND)?;
        let later = self.bursts(since);
        if !between.is_direct() && (first > 3 || later > 2) {
            return Err(self.failure(&format!("{first} meetings in two minutes, and {later} in ten more")));
        }
        self.complete(5 * SECOND)?;
        self.run(60 * SECOND)?;
        let since = self.now;
        self.run(1200 * SECOND)?;
        // Connections stand, so that the session is renewed now and then, and each renewal counts as use.
        match self.bursts(since) {
            idle if idle > 2 && !between.is_direct() => Err(self.failure(&format!("{idle} meetings when idle"))),
            _ => Ok(()),
        }
    }

    /// The direct path dies under load, one way or both, and comes back.
    pub(super) fn direct_dies(&mut self, between: Between) -> Result<(), Failure> {
        self.become_direct(self.until_direct(between))?;
        self.writing(LOAD.0, LOAD.1);
        self.run(2 * SECOND)?;
        let side = self.rng.below(2) as usize;
        self.loss = [100; 2];
        self.loss[1 - side] = if self.rng.chance(50) { 100 } else { 0 };
        let dies = self.now;
        self.note(&format!("the direct path dies: {:?}", self.loss));
        // TCP waits twice as long each time.
        self.patience = 4 * (NOTICED + self.by_relay());
        // Who still hears the other one learns by it that its own way is dead: the other one's silence comes first.
        let times = if self.loss == [100; 2] { 1 } else { 2 };
        let bound = times * (NOTICED + self.late(self.by_relay()));
        self.until(bound, "data by the relay", |world| world.relay_of(side).is_some())?;
        let pause = SECOND * self.rng.below(4) as u32;
        self.run(pause)?;
        self.loss = [0; 2];
        self.note("the direct path is back");
        let is_direct = |world: &Self| world.seen.carriers[side].is_some_and(Carrier::is_direct);
        let patience = if between.is_delicate() { 250 } else { 100 };
        self.until(4 * SECOND, "data by the relay", |world| !is_direct(world))?;
        self.until(patience * SECOND, "the direct path again", is_direct)?;
        if self.now < dies + SHUT {
            let words = format!("the direct path is used {:?} after it fell silent", self.now - dies);
            return Err(self.failure(&words));
        }
        self.complete(20 * SECOND)
    }

    /// A third of what one sends directly is lost for ten minutes.
    pub(super) fn lossy(&mut self, between: Between) -> Result<(), Failure> {
        self.become_direct(self.until_direct(between))?;
        self.patience = Duration::MAX;
        self.loss[self.rng.below(2) as usize] = 30;
        self.writing(LINE.0, LINE.1);
        let before = self.seen.changes.len();
        self.run(600 * SECOND)?;
        for side in [0, 1] {
            let changes = self.seen.changes[before..].iter().filter(|change| change.1 == side).count();
            if changes > 8 {
                return Err(self.failure(&format!("{side} changed its path {changes} times in ten minutes")));
            }
        }
        self.loss = [0; 2];
        self.complete(600 * SECOND)
    }

    /// One of two relays dies.
    pub(super) fn relay_dies(&mut self, between: Between) -> Result<(), Failure> {
        self.stay(between, 5 * SECOND)?;
        self.writing(LINE.0, LINE.1);
        self.run(2 * SECOND)?;
        let (carriers, lost) = (self.seen.carriers, self.seen.lost);
        let Some(Carrier::Relay(used)) = carriers[0].filter(|_| !between.is_direct()) else {
            // A direct path doesn't need it.
            self.kill(0);
            self.run(40 * SECOND)?;
            if self.seen.carriers != carriers || self.seen.lost != lost {
                return Err(self.failure("the direct path has changed with a relay"));
            }
            return self.complete(5 * SECOND);
        };
        self.kill(used as usize);
        self.patience = 3 * (NOTICED + self.by_relay());
        let bound = NOTICED + self.late(self.by_relay()) + 2 * LINE.0;
        let is_there = |world: &Self| (0..2).all(|runner| world.relay_of(runner) == Some(1 - used));
        self.until(bound, "data by the other relay", is_there)?;
        self.call_both(self.late(2 * self.by_relay()) + SECOND)?;
        self.relays[used as usize].rise();
        self.until(60 * SECOND, "two allocations", |world| world.runners.iter().all(|r| r.relays.len() == 2))?;
        self.complete(5 * SECOND)
    }

    pub(super) fn kill(&mut self, relay: usize) {
        self.relays[relay].die();
        self.note(&format!("relay {relay} dies"));
    }

    /// The only relay dies, and comes back.
    pub(super) fn relay_returns(&mut self, between: Between) -> Result<(), Failure> {
        self.stay(between, 5 * SECOND)?;
        self.writing(LINE.0, LINE.1);
        self.run(2 * SECOND)?;
        self.kill(0);
        if !between.is_direct() {
            self.patience = Duration::MAX;
        }
        let pause = SECOND * (1 + self.rng.below(60) as u32);
        self.run(pause)?;
        self.relays[0].rise();
        self.note("the relay is back");
        let bound = 5 * SECOND + 3 * self.late(self.by_relay());
        if !between.is_direct() {
            self.until(bound, "allocations", |world| world.runners.iter().all(|r| r.relays.len() == 1))?;
        }
        self.call_both(self.late(4 * self.by_relay()) + 6 * SECOND)?;
        // TCP waits twice as long each time.
        self.complete(10 * SECOND + 2 * pause)
    }

    /// Boxes forget what they know, or get other addresses.
    pub(super) fn flushed(&mut self, between: Between) -> Result<(), Failure> {
        self.stay(between, 5 * SECOND)?;
        self.writing(LINE.0, LINE.1);
        self.run(2 * SECOND)?;
        let side = self.rng.below(2) as usize;
        self.flush(side);
        self.patience = 30 * SECOND;
        self.run(60 * SECOND)?;
        self.complete(5 * SECOND)?;
        self.call_both(self.late(2 * self.by_relay()) + SECOND)?;
        if between.is_direct() {
            self.writing(LINE.0, LINE.1);
            self.become_direct(120 * SECOND)?;
        }
        self.complete(5 * SECOND)
    }

    pub(super) fn flush(&mut self, side: usize) {
        let renumbers = self.rng.chance(30);
        self.note(&format!("the boxes before {side} forget, other addresses: {renumbers}"));
        for site in self.places.before(side) {
            if renumbers && self.places.is_outermost(site) {
                let address = self.an_address();
                self.places.boxes[site].nat.renumber(address);
            } else {
                self.places.boxes[site].nat.flush();
            }
        }
    }
}
