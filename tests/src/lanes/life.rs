//! What happens in a life.

use std::time::Duration;

use super::{connection::Connection, plan::Plan, world::World};
use crate::Failure;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// What a life has beside transfers.
struct Kind {
    rough: bool,
    restarts: bool,
    revokes: bool,
    /// Sessions age.
    long: bool,
}

impl World {
    pub(super) fn live(&mut self) -> Result<(), Failure> {
        let rng = &mut self.rng;
        let (rough, restarts) = (rng.chance(20), rng.chance(15));
        let kind = Kind { rough, restarts, revokes: rng.chance(40), long: rng.chance(20) };
        self.ordered = !(kind.rough || kind.restarts);
        if kind.rough {
            self.network.loss = 5 + self.rng.below(20);
            self.network.replays = self.rng.below(6);
            self.astray = self.rng.below(10);
        }
        (0..self.runners.len()).try_for_each(|r| self.take_map(r))?;
        let most = 8 + self.rng.below(17);
        self.open(most)?;
        self.run(50 * MILLISECOND)?;
        self.write_bulk(10_000_000);
        self.run_for(100..400)?;
        for _ in 0..3 + self.rng.below(4) {
            self.write_some();
            self.run_for(1..30)?;
            match self.rng.below(10) {
                0..3 => self.stand_still()?,
                3..6 if kind.revokes => self.revoke()?,
                6..8 if kind.restarts => self.restart()?,
                8 => self.open(4)?,
                _ if kind.long => self.trickle()?,
                _ => self.run_for(1..2000)?,
            }
            self.run_for(1..300)?;
            self.grant_again()?;
        }
        if kind.restarts {
            self.write_some();
            self.run_for(1..30)?;
            self.restart()?;
        }
        self.complete()?;
        self.idle()?;
        if self.rng.chance(30) {
            self.open(6)?;
            self.write_bulk(8_000_000);
            self.complete()?;
        }
        Ok(())
    }

    fn run_for(&mut self, milliseconds: std::ops::Range<u64>) -> Result<(), Failure> {
        let time = milliseconds.start + self.rng.below(milliseconds.end - milliseconds.start);
        self.run(time as u32 * MILLISECOND)
    }

    // === Transfers ===

    fn open(&mut self, most: u64) -> Result<(), Failure> {
        if self.plan.granted.is_empty() {
            return Ok(());
        }
        for _ in 0..most {
            let (caller, callee) = self.plan.pair(&mut self.rng);
            let to = if self.rng.chance(30) { Plan::service_address(callee) } else { Plan::address(callee) };
            let (number, ends) = (self.connections.len(), [(caller, Plan::address(caller)), (callee, to)]);
            let deployment = self.plan.seats[caller].deployment;
            let mut connection = Connection::new(number, ends, deployment, &mut self.rng);
            let syn = connection.start(self.now);
            self.connections.push(connection);
            self.put(number, 0, vec![syn]);
            self.write(number, 1000);
        }
        Ok(())
    }

    /// The programs at both ends of a connection write up to so many bytes each.
    fn write(&mut self, number: usize, most: u32) {
        for from in [0, 1] {
            let bytes = self.rng.below(u64::from(most)) as u32;
            self.write_at(number, from, bytes);
        }
    }

    fn write_at(&mut self, number: usize, from: usize, bytes: u32) {
        let one = &mut self.connections[number];
        if one.revoked.is_none() && !one.closed {
            one.halves[from].written += bytes;
            let packets = one.send(from, self.now, &mut self.rng);
            self.put(number, from, packets);
        }
    }

    /// Enough from one runner to another that lanes open, and perhaps back.
    fn write_bulk(&mut self, bytes: u32) {
        let runners = self.runners.len() as u64;
        let from = self.rng.below(runners) as usize;
        let to = (from + 1 + self.rng.below(runners - 1) as usize) % self.runners.len();
        let both = self.rng.chance(50);
        for (from, to) in [(from, to), (to, from)].into_iter().take(if both { 2 } else { 1 }) {
            let runner = |seat: usize| self.plan.seats[seat].runner;
            let halves = self.connections.iter().enumerate().filter(|(_, one)| !one.closed).flat_map(|(i, one)| {
                let [caller, callee] = one.seats.map(runner);
                [(i, 0, (caller, callee)), (i, 1, (callee, caller))]
            });
            let halves: Vec<_> = halves.filter(|(.., pair)| *pair == (from, to)).collect();
            for (i, end, _) in &halves {
                self.write_at(*i, *end, bytes / halves.len() as u32);
            }
        }
        self.note(&format!("bulk from {from} to {to}, both ways: {both}"));
    }

    fn write_some(&mut self) {
        for number in 0..self.connections.len() {
            let most = match self.rng.below(4) {
                0 => continue,
                1 => 1 + self.rng.below(5000),
                _ => 1 + self.rng.below(400_000),
            };
            self.write(number, most as u32);
        }
    }

    /// Little is sent now and then, while sessions age.
    fn trickle(&mut self) -> Result<(), Failure> {
        self.note("a trickle");
        for _ in 0..10 + self.rng.below(40) {
            for _ in 0..1 + self.rng.below(3) {
                let number = self.rng.below(self.connections.len() as u64) as usize;
                let most = if self.rng.chance(50) { 200 } else { 150_000 };
                self.write(number, most);
            }
            let longest = if self.rng.chance(50) { 1000 } else { 15_000 };
            self.run_for(1..longest)?;
        }
        Ok(())
    }

    fn complete(&mut self) -> Result<(), Failure> {
        let end = self.now + if self.ordered { 15 } else { 60 } * SECOND;
        let is_over = |one: &Connection| one.closed || one.revoked.is_some() || one.is_complete();
        while let Some(number) = self.connections.iter().position(|one| !is_over(one)) {
            if self.now >= end {
                return Err(self.failure(&format!("a connection doesn't complete: {:?}", self.connections[number])));
            }
            self.run(100 * MILLISECOND)?;
        }
        self.note("all is complete");
        Ok(())
    }

    /// After some minutes no lane has a tunnel.
    fn idle(&mut self) -> Result<(), Failure> {
        // A reset that is lost leaves half a connection, for which its engine goes on asking the other one.
        let ends = self.rng.chance(50);
        for number in 0..self.connections.len() {
            let one = &mut self.connections[number];
            if ends && !one.closed {
                let reset = one.reset();
                self.put(number, 0, vec![reset]);
            }
        }
        self.run(620 * SECOND)?;
        let tunnels = |lanes: &[super::runner::Station]| lanes.iter().map(|lane| lane.lane.tunnels()).sum::<usize>();
        match self.runners.iter().position(|runner| tunnels(&runner.lanes) > 0) {
            Some(r) => Err(self.failure(&format!("an idle lane of {r} has a tunnel"))),
            None => Ok(()),
        }
    }

    // === What befalls them ===

    fn some_lane(&mut self) -> Option<(usize, usize)> {
        let r = self.rng.below(self.runners.len() as u64) as usize;
        let lanes = self.runners[r].lanes.len() as u64;
        (lanes > 0).then(|| (r, self.rng.below(lanes) as usize))
    }

    fn stop(&mut self, (r, lane): (usize, usize), time: Duration) {
        self.note(&format!("lane {} of {r} stands still for {time:?}", lane + 1));
        self.runners[r].lanes[lane].stopped = self.now + time;
    }

    /// A lane stands still for a while. The TUNs that don't use it go on.
    fn stand_still(&mut self) -> Result<(), Failure> {
        let Some((r, lane)) = self.some_lane() else { return Ok(()) };
        let time = (50 + self.rng.below(800)) as u32 * MILLISECOND;
        let alone = self.runners.iter().flat_map(|runner| &runner.lanes).all(|lane| lane.stopped <= self.now);
        self.stop((r, lane), time);
        self.connections.iter_mut().for_each(Connection::look);
        let under_way = self.connections.iter().enumerate().flat_map(|(i, one)| {
            let able = one.open == [true; 2] && !one.closed && one.revoked.is_none();
            let unfinished = move |from: &usize| able && one.halves[*from].acknowledged < one.halves[*from].written;
            [0, 1].into_iter().filter(unfinished).map(move |from| (i, from, one.halves[from].acknowledged))
        });
        let under_way: Vec<_> = under_way.collect();
        self.run(time)?;
        for seat in self.plan.of(r).collect::<Vec<_>>() {
            let used = |one: &Connection| one.halves.iter().any(|half| half.lanes & 2 << lane != 0);
            if !self.ordered || !alone || self.connections.iter().any(|one| one.seats.contains(&seat) && used(one)) {
                continue;
            }
            for (i, from, acknowledged) in &under_way {
                let one = &self.connections[*i];
                if !one.seats.contains(&seat) {
                    continue;
                }
                self.tally.beside += 1;
                if time > 400 * MILLISECOND && one.halves[*from].acknowledged == *acknowledged {
                    return Err(self.failure(&format!("connection {i} stands still beside a lane that it doesn't use")));
                }
            }
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Failure> {
        let r = self.rng.below(self.runners.len() as u64) as usize;
        // A new tunnel's time stamps are older than the earlier one's: the mock clock doesn't move the wall clock.
        let forgotten = self.rng.chance(50);
        self.note(&format!("{r} restarts, its peers forget it: {forgotten}"));
        let now = self.instant();
        self.runners[r].restart(r, &self.plan, &mut self.rng, now);
        self.tally.restarts += 1;
        self.take_map(r)?;
        for other in (0..self.runners.len()).filter(|other| *other != r && forgotten) {
            let map = self.plan.map(other, self.runners[other].revision, Some(r));
            self.engine(other, None, |engine, _, now, said| engine.handle_map(map, now, said))?;
            let map = self.plan.map(other, self.runners[other].revision, None);
            self.engine(other, None, |engine, _, now, said| engine.handle_map(map, now, said))?;
            self.wake_engine(other);
        }
        Ok(())
    }

    /// A deployment loses its right, and its connections insist.
    fn revoke(&mut self) -> Result<(), Failure> {
        let granted: Vec<u64> = self.plan.granted.iter().copied().collect();
        let Some(deployment) = self.rng.pick(&granted).copied() else { return Ok(()) };
        self.write_some();
        let time = (20 + self.rng.below(500)) as u32 * MILLISECOND;
        for r in 0..self.runners.len() {
            for lane in 0..self.runners[r].lanes.len() {
                if self.rng.chance(50) {
                    self.stop((r, lane), time);
                }
            }
        }
        self.write_some();
        self.run_for(1..20)?;
        self.note(&format!("deployment {deployment} loses its right"));
        self.revision += 1;
        self.plan.granted.remove(&deployment);
        let revision = self.revision;
        for one in self.connections.iter_mut().filter(|one| one.deployment == deployment && one.revoked.is_none()) {
            self.tally.revoked += u64::from(!one.closed && !one.is_complete());
            one.revoked = Some(revision);
            one.insist();
        }
        self.tell_all()?;
        self.run_for(1..800)
    }

    fn grant_again(&mut self) -> Result<(), Failure> {
        if self.plan.grant_all() {
            self.revision += 1;
            for one in self.connections.iter_mut().filter(|one| one.revoked.is_some() && !one.closed) {
                (one.closed, one.restored) = (true, self.revision);
            }
            self.note("every deployment has its right again");
            self.tell_all()?;
            self.open(4)?;
        }
        Ok(())
    }

    /// Each runner gets the map in its own time.
    fn tell_all(&mut self) -> Result<(), Failure> {
        let runners = self.runners.len();
        let first = self.rng.below(runners as u64) as usize;
        for i in 0..runners {
            self.run_for(1..30)?;
            self.take_map((first + i) % runners)?;
        }
        Ok(())
    }
}
