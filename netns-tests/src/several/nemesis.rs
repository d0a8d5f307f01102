//! What befalls the machines of several coordinators: one thing at a time, for a while.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::Several;
use crate::{Chance, Coordinator};

/// What may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A coordinator is killed, and started again.
    CoordinatorKilled,
    /// A coordinator ends in order, and is started again.
    CoordinatorStopped,
    /// A coordinator stands still, and goes on.
    CoordinatorPaused,
    /// A coordinator doesn't reach etcd.
    CoordinatorWithoutEtcd,
    /// A coordinator doesn't reach one of etcd's members.
    CoordinatorWithoutMember,
    /// A coordinator and the runners don't reach each other.
    CoordinatorWithoutRunners,
    /// A coordinator's wall clock is an hour ahead or behind.
    ClockOff,
    /// The member of etcd that leads is killed, and started again.
    LeaderKilled,
    /// The member of etcd that leads stands still, and goes on.
    LeaderPaused,
    /// A member of etcd is killed, and started again.
    MemberKilled,
    /// A member of etcd doesn't reach the others, only coordinators.
    MemberApart,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::CoordinatorKilled,
        Self::CoordinatorStopped,
        Self::CoordinatorPaused,
        Self::CoordinatorWithoutEtcd,
        Self::CoordinatorWithoutMember,
        Self::CoordinatorWithoutRunners,
        Self::ClockOff,
        Self::LeaderKilled,
        Self::LeaderPaused,
        Self::MemberKilled,
        Self::MemberApart,
    ];

    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::CoordinatorKilled => "coordinator killed",
            Self::CoordinatorStopped => "coordinator stopped in order",
            Self::CoordinatorPaused => "coordinator stands still",
            Self::CoordinatorWithoutEtcd => "coordinator cut off from etcd",
            Self::CoordinatorWithoutMember => "coordinator cut off from one member of etcd",
            Self::CoordinatorWithoutRunners => "coordinator cut off from the runners",
            Self::ClockOff => "coordinator's clock an hour off",
            Self::LeaderKilled => "etcd's leader killed",
            Self::LeaderPaused => "etcd's leader stands still",
            Self::MemberKilled => "member of etcd killed",
            Self::MemberApart => "member of etcd cut off from the others",
        }
    }
}

impl Several<'_> {
    /// Has this happen for so long, somewhere: see [`Several::strike_at`].
    pub(super) fn strike(&mut self, fault: Fault, chance: &mut Chance, lasts: Duration, watch: impl FnMut() -> bool) {
        let one = chance.below(self.coordinators.len());
        let member = chance.below(self.etcd.namespaces().count());
        let hours = if chance.below(2) == 0 { 1 } else { -1 };
        self.strike_at(fault, (one, member, hours), lasts, watch);
    }

    /// Has this happen to a coordinator, a member of etcd, or a clock. `watch` is called as soon as it has, and again and again
    /// until it says that it is enough, or the time is up. Then it is mended.
    pub(super) fn strike_at(
        &mut self,
        fault: Fault,
        (one, member, hours): (usize, usize, i8),
        lasts: Duration,
        mut watch: impl FnMut() -> bool,
    ) {
        let mut pass = || {
            let until = Instant::now() + lasts;
            while !watch() && Instant::now() < until {
                thread::sleep(Duration::from_millis(20));
            }
        };
        match fault {
            Fault::CoordinatorKilled => {
                self.coordinators[one].kill();
                pass();
                self.coordinators[one].start();
            }
            Fault::CoordinatorStopped => {
                assert!(self.coordinators[one].stop().success(), "a coordinator ends in order");
                pass();
                self.coordinators[one].start();
            }
            Fault::CoordinatorPaused => self.coordinators[one].frozen(pass),
            Fault::CoordinatorWithoutEtcd => {
                let members: Vec<usize> = (0..self.etcd.namespaces().count()).collect();
                self.apart(&self.coordinators[one], &members, pass);
            }
            Fault::CoordinatorWithoutMember => self.apart(&self.coordinators[one], &[member], pass),
            Fault::CoordinatorWithoutRunners => {
                let coordinator = self.coordinators[one].namespace();
                let runners = || self.runners.iter().map(crate::Runner::namespace);
                runners().for_each(|runner| self.world.cut_between(coordinator, runner));
                pass();
                runners().for_each(|runner| self.world.mend_between(coordinator, runner));
            }
            Fault::ClockOff => {
                self.clocks[one].set_clock(hours);
                pass();
                self.clocks[one].set_clock(0);
            }
            Fault::LeaderKilled => self.without(self.etcd.leader(), pass),
            Fault::MemberKilled => self.without(member, pass),
            Fault::LeaderPaused => self.etcd.frozen(self.etcd.leader(), pass),
            Fault::MemberApart => {
                let all: Vec<_> = self.etcd.namespaces().collect();
                let others = || (0..all.len()).filter(|other| *other != member);
                others().for_each(|other| self.world.cut_between(all[member], all[other]));
                pass();
                others().for_each(|other| self.world.mend_between(all[member], all[other]));
            }
        }
    }

    /// A coordinator doesn't reach these members of etcd.
    fn apart(&self, coordinator: &Coordinator, members: &[usize], pass: impl FnOnce()) {
        let all: Vec<_> = self.etcd.namespaces().collect();
        members.iter().for_each(|member| self.world.cut_between(coordinator.namespace(), all[*member]));
        pass();
        members.iter().for_each(|member| self.world.mend_between(coordinator.namespace(), all[*member]));
    }

    /// A member of etcd is gone.
    fn without(&mut self, member: usize, pass: impl FnOnce()) {
        self.etcd.kill(member);
        pass();
        self.etcd.start(member);
    }
}
