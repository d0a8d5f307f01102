//! What happens to the world: one random operation after the other.

use std::time::Duration;

use mesh_proto::ServicePath;

use super::{
    clients::{SERVICES, What, service_name},
    event::Event,
    truth::DEPLOYMENTS,
    world::World,
};
use crate::{
    Failure,
    waits::{agent::Pace, world::deployment_name},
};

/// How long anything is broken, in milliseconds: mostly, and at times.
const BROKEN: u64 = 20_000;
const BROKEN_LONG: u64 = 70_000;
/// How long etcd has no quorum: less than the time by which quarantines are longer with several coordinators, since what
/// it was asked before has effect afterwards.
const NO_QUORUM: u64 = 7000;

impl World {
    /// One random operation, and a little time.
    pub(super) fn operate(&mut self) -> Result<(), Failure> {
        match self.rng.below(100) {
            0..25 => {
                let wait = self
                    .rng
                    .chance(70)
                    .then(|| Duration::from_millis(*self.rng.pick(&[500, 4000, 10_000]).unwrap_or(&0)));
                let app = self.rng.below(DEPLOYMENTS as u64) as usize;
                self.order_trust(app, wait);
            }
            25..29 => {
                let app = self.rng.below(DEPLOYMENTS as u64) as usize;
                let services = (0..SERVICES).filter(|_| self.rng.chance(80)).collect();
                self.order(What::Deploy { app, services }, None);
            }
            29..35 => self.order(What::Read, None),
            35..58 => {
                if let Some(runner) = self.some_runner() {
                    let deployment = deployment_name(self.rng.below(DEPLOYMENTS as u64) as usize);
                    let service = service_name(self.rng.below(SERVICES as u64) as usize);
                    self.attach(runner, ServicePath { deployment, service });
                }
            }
            58..70 => {
                if let Some(runner) = self.some_runner() {
                    self.detach(runner);
                }
            }
            70..75 => {
                if let Some(runner) = self.some_runner() {
                    self.note(format!("the stream of {runner} breaks"));
                    self.disconnect(runner);
                }
            }
            75..78 => {
                if let Some(runner) = self.some_runner() {
                    self.note(format!("the agent of {runner} restarts"));
                    self.restart_agent(runner);
                }
            }
            78..79 => {
                if let Some(runner) = self.some_runner() {
                    self.order(What::Remove(runner), None);
                }
            }
            79..83 => self.change_pace(),
            83..96 => self.break_something(),
            96..98 => self.rest()?,
            98 => self.stumble()?,
            _ => return self.calm(),
        }
        let pause = Duration::from_millis(self.rng.below(1500));
        self.run_for(pause)
    }

    /// For a while nothing is asked for. A coordinator that begins at the end of it finds an old head.
    fn rest(&mut self) -> Result<(), Failure> {
        const REST: Duration = Duration::from_secs(60);
        if self.rng.chance(50) {
            let member = self.rng.below(self.members.len() as u64) as usize;
            self.note(format!("coordinator {member} is killed, and nothing is asked for"));
            self.kill(member);
            self.after(REST, Event::Start(member));
        }
        self.run_for(REST)
    }

    /// The only coordinator stands still between a decision that frees an address and its commit. Nothing else is
    /// committed meanwhile, so etcd is as it was.
    fn stumble(&mut self) -> Result<(), Failure> {
        let member = self.rng.below(self.members.len() as u64) as usize;
        let time = Duration::from_millis(self.rng.below(BROKEN_LONG));
        self.note(format!("coordinator {member} is to stand still for {time:?}, alone"));
        for other in (0..self.members.len()).filter(|other| *other != member) {
            self.kill(other);
            self.after(Duration::from_secs(12) + time, Event::Start(other));
        }
        // The agents come to it.
        self.run_for(Duration::from_secs(10))?;
        self.members[member].stumbles = Some(time);
        for runner in self.agents.keys().copied().collect::<Vec<_>>() {
            self.detach(runner);
        }
        self.run_for(Duration::from_secs(1) + time)?;
        self.members[member].stumbles = None;
        for runner in self.agents.keys().copied().collect::<Vec<_>>() {
            self.attach(runner, ServicePath { deployment: deployment_name(0), service: service_name(0) });
        }
        Ok(())
    }

    fn change_pace(&mut self) {
        let Some(runner) = self.some_runner() else { return };
        let pace = match self.rng.below(3) {
            0 => Pace::Never,
            1 => Pace::After(Duration::from_millis(10)),
            _ => Pace::After(Duration::from_millis(self.rng.below(4000))),
        };
        if let Some(one) = self.agents.get_mut(&runner) {
            one.agent.pace = pace;
        }
        self.apply(runner);
    }

    // === What breaks ===

    fn break_something(&mut self) {
        let member = self.rng.below(self.members.len() as u64) as usize;
        let most = if self.rng.chance(20) { BROKEN_LONG } else { BROKEN };
        let time = Duration::from_millis(self.rng.below(most));
        match self.rng.below(14) {
            0..3 => {
                self.note(format!("coordinator {member} is killed"));
                self.kill(member);
                let longer = if self.rng.chance(50) { time + Duration::from_secs(40) } else { time };
                self.after(longer, Event::Start(member));
            }
            3..5 => {
                self.note(format!("coordinator {member} is paused for {time:?}"));
                self.members[member].paused_until = self.now + time;
            }
            5..8 => {
                self.note(format!("coordinator {member} is cut off from etcd for {time:?}"));
                self.members[member].cut_store = true;
                self.after(time, Event::Heal(member));
            }
            8..10 => {
                self.note(format!("coordinator {member} is cut off from agents and clients for {time:?}"));
                self.members[member].cut_clients = true;
                self.after(time, Event::Heal(member));
            }
            10 => {
                let time = Duration::from_millis(self.rng.below(NO_QUORUM));
                self.note(format!("etcd has no quorum for {time:?}"));
                self.away_until = self.now + time;
                let before = self.etcd.revision();
                self.etcd.expire(self.now);
                self.etcd.prolong(self.away_until);
                self.tell(before);
            }
            11..13 => {
                self.note(format!("the watch of coordinator {member} breaks"));
                self.unfollow(member);
                if self.rng.chance(30) {
                    self.etcd.compact(self.etcd.revision());
                }
            }
            _ => {
                self.members[member].skew = self.rng.below(7200) as i64 - 3600;
            }
        }
    }

    /// A coordinator reaches all again.
    pub(super) fn heal(&mut self, member: usize) {
        (self.members[member].cut_store, self.members[member].cut_clients) = (false, false);
        let (mine, others) =
            std::mem::take(&mut self.floating).into_iter().partition(|(caller, _)| caller.process.member == member);
        self.floating = others;
        for (caller, ask) in mine {
            let pause = self.latency();
            self.after(pause, Event::Etcd(caller, ask));
        }
    }
}
