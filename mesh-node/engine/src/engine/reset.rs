//! What happens to connections when the right to them, or one of their ends, is gone.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use mesh_proto::InstanceId;

use super::Engine;
use crate::{
    Map, Port, Sink,
    flow::{Flow, Phase, Role, Seat, Way},
    peers::Turn,
};

/// When a RST to another runner is sent again: datagrams get lost, and an end that is idle would never notice. Whoever
/// has had it doesn't mind.
const AGAIN: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];

/// And after that, until something has come from there twice in a row after one was sent: who has received something says
/// so after ten seconds at most (whitepaper §6.5, Keepalive-Timeout).
const HEARD: Duration = Duration::from_secs(15);

/// When one is tried again that could not be sent: the session, the TUN or the map is on its way, as after a start of the
/// agent. That goes on for as long as the connection is remembered, but not for ever at this pace.
const RETRY: Duration = Duration::from_millis(250);
const RETRIES: usize = 40;

/// How long another runner may be out of reach. Its end of the connection is remembered for as long.
const GIVE_UP: Duration = Duration::from_secs(24 * 3600);

/// RSTs that are sent again, and when the first of them is.
#[derive(Debug, Default)]
pub(super) struct Resets {
    all: VecDeque<Again>,
    next: Option<Instant>,
}

#[derive(Debug)]
struct Again {
    at: Instant,
    slot: u32,
    generation: u64,
    role: Role,
    /// Since when it is tried.
    since: Instant,
    /// How often it was sent, and when last.
    times: usize,
    sent: Option<Instant>,
    /// How often it could not be sent.
    failed: usize,
    /// Something has come from there after the one before the last.
    heard: bool,
}

/// What has come of a RST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It was delivered.
    Here,
    /// It was sent to another runner.
    There,
    /// It can't be sent yet.
    NotYet,
    /// There is no such end to tell.
    Never,
}

impl Resets {
    /// Keeps one that has to be sent again.
    fn note(&mut self, again: Again, told: Told, now: Instant) {
        let again = match told {
            Told::Here | Told::Never => return,
            Told::NotYet => {
                let wait = if again.failed < RETRIES { RETRY } else { HEARD };
                Again { at: now + wait, failed: again.failed + 1, heard: false, ..again }
            }
            Told::There => {
                let wait = AGAIN.get(again.times).copied().unwrap_or(HEARD);
                Again { at: now + wait, times: again.times + 1, sent: Some(now), ..again }
            }
        };
        self.push(again);
    }

    fn push(&mut self, again: Again) {
        self.next = Some(self.next.map_or(again.at, |next| next.min(again.at)));
        self.all.push_back(again);
    }

    /// When [`Engine::reset_again`] wants to be called.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.next
    }
}

impl Engine {
    /// Resets the connections to whose right or ends the map has put an end.
    pub(super) fn reset_broken(&mut self, now: Instant, sink: &mut impl Sink) {
        for slot in self.flows.resolve(&self.map.route, &self.map.filter) {
            if !self.goes_elsewhere(slot, now, sink) {
                self.reset(slot, now, sink);
            }
        }
    }

    /// Forgets what has come due. What has been silent for too long is reset: an end may still hold on to it.
    pub(super) fn reset_silent(&mut self, now: Instant, sink: &mut impl Sink) {
        for slot in self.flows.tick(now) {
            self.reset(slot, now, sink);
        }
    }

    /// An attempt has lost whoever had it, and nothing else: gives it to another one, of whom the caller never hears.
    /// False: there is none, or it is no such attempt.
    fn goes_elsewhere(&mut self, slot: u32, now: Instant, sink: &mut impl Sink) -> bool {
        let opens = self.flows.get(slot).is_some_and(|flow| flow.phase() == Phase::Opening);
        opens && self.flows.may_be_opened(slot, &self.map.route, &self.map.filter) && self.try_another(slot, now, sink)
    }

    /// Tells those at runners that `next` no longer holds, while there is a way to them. (The ends that are here are told
    /// with the map itself.)
    pub(super) fn reset_parting(&mut self, next: &Map, now: Instant, sink: &mut impl Sink) {
        let parts = |seat| matches!(seat, Seat::There(runner) if next.route.runner(runner).is_none());
        if !self.map.route.runners.iter().any(|runner| parts(Seat::There(runner.id))) {
            return;
        }
        let of = self.flows.all().filter(|(_, flow)| flow.phase().stands());
        let far = of.flat_map(|(slot, flow)| {
            Role::BOTH.into_iter().filter(move |role| parts(flow.seat(*role))).map(move |role| (slot, role))
        });
        let far: Vec<(u32, Role)> = far.collect();
        for (slot, role) in far {
            self.reset_end(slot, role, now, sink);
        }
    }

    /// Resets the connections of an instance that ends here. The other ends hear of it from us, since the coordinator may
    /// be away.
    pub(super) fn reset_of(&mut self, instance: InstanceId, now: Instant, sink: &mut impl Sink) {
        let here = Seat::Here(instance);
        let of = self
            .flows
            .all()
            .filter(|(_, flow)| flow.phase().stands() && Role::BOTH.iter().any(|role| flow.seat(*role) == here));
        let slots: Vec<u32> = of.map(|(slot, _)| slot).collect();
        for slot in slots {
            let calls = self.flows.get(slot).is_some_and(|flow| flow.seat(Role::Caller) == here);
            if calls || !self.goes_elsewhere(slot, now, sink) {
                self.reset(slot, now, sink);
            }
        }
    }

    /// Resets a connection at both ends.
    fn reset(&mut self, slot: u32, now: Instant, sink: &mut impl Sink) {
        for role in Role::BOTH {
            self.reset_end(slot, role, now, sink);
        }
        self.flows.end(slot, Phase::Reset, now);
    }

    /// Tells one end of a connection, wherever it is, that the connection is no more.
    pub(super) fn reset_end(&mut self, slot: u32, role: Role, now: Instant, sink: &mut impl Sink) {
        let told = self.tell(slot, role, now, sink);
        let Some(generation) = self.flows.get(slot).map(Flow::generation) else { return };
        let again =
            Again { at: now, slot, generation, role, since: now, times: 0, sent: None, failed: 0, heard: false };
        self.resets.note(again, told, now);
    }

    /// Sends the RSTs again that have come due, if their connections have not been opened anew.
    pub(super) fn reset_again(&mut self, now: Instant, sink: &mut impl Sink) {
        if self.resets.next.is_none_or(|at| at > now) {
            return;
        }
        self.resets.next = None;
        for mut again in std::mem::take(&mut self.resets.all) {
            if again.at > now {
                self.resets.push(again);
                continue;
            }
            let same = |flow: &&Flow| flow.generation() == again.generation && flow.phase() == Phase::Reset;
            let Some(flow) = self.flows.get(again.slot).filter(same) else { continue };
            let far = match flow.seat(again.role) {
                Seat::There(runner) => self.map.route.runner(runner),
                Seat::Here(_) => None,
            };
            if let (Some(runner), Some(sent)) = (far, again.sent.filter(|_| again.times > AGAIN.len())) {
                let heard = self.peers.list()[runner as usize].heard.is_some_and(|heard| heard > sent);
                if heard && again.heard {
                    self.flows.hold(again.slot, false);
                    continue;
                }
                again.heard = heard;
            }
            self.flows.hold(again.slot, far.is_some() && now.saturating_duration_since(again.since) < GIVE_UP);
            let told = self.tell(again.slot, again.role, now, sink);
            self.resets.note(again, told, now);
        }
    }

    fn tell(&mut self, slot: u32, role: Role, now: Instant, sink: &mut impl Sink) -> Told {
        let (Some(mut reset), Some(flow)) = (self.abort(slot, role), self.flows.get(slot)) else { return Told::Never };
        match flow.seat(role) {
            Seat::Here(instance) => match self.homes.port_of(instance) {
                Some(port) => {
                    sink.deliver(port, reset.octets());
                    Told::Here
                }
                None => Told::NotYet,
            },
            Seat::There(runner) => {
                let Some(runner) = self.map.route.runner(runner) else { return Told::NotYet };
                let mut turn = Turn { now, sink, drops: &mut self.drops };
                match self.peers.answer(runner, reset.packet_mut(), &mut turn) {
                    Ok(()) => Told::There,
                    Err(_) => {
                        self.peers.reach(runner, &mut turn);
                        Told::NotYet
                    }
                }
            }
        }
    }

    /// The TUN for a way, if it is one to an instance that is attached.
    pub(super) fn port(&self, way: Way) -> Option<Port> {
        match way {
            Way::Instance(instance) => self.homes.port(instance),
            Way::Runner(_) => None,
        }
    }
}
