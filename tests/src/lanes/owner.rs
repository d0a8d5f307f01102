//! The thread of an engine.

use std::time::Instant;

use mesh_engine::{Datagrams, Engine, LaneIx, Order, Port};

use super::{
    Bug,
    network::Batch,
    runner::{Said, Tale, Waiting},
    world::World,
};
use crate::{
    Failure,
    pair::endpoint,
    stream::{Packet, Read},
};

impl World {
    /// One turn: it hears the lanes, receives, reads the TUNs, and does what is due.
    pub(super) fn engine_turn(&mut self, r: usize) -> Result<(), Failure> {
        self.runners[r].turn = None;
        let lanes = self.runners[r].lanes.len();
        let first = self.rng.below(8) as usize;
        for lane in (0..lanes).map(|i| (i + first) % lanes) {
            for _ in 0..1 + self.rng.below(64) {
                let Some(tale) = self.runners[r].lanes[lane].tales.pop_front() else { break };
                self.hear(r, lane, tale)?;
            }
            if !self.runners[r].lanes[lane].inbox.is_empty() {
                self.wake_lane(r, lane);
            }
        }
        for _ in 0..4 {
            let Some(Batch { from, bytes, stride, .. }) = self.runners[r].inbox.pop_front() else { break };
            self.receive(r, from, &bytes, stride)?;
        }
        let ports: Vec<Port> = self.runners[r].tuns.keys().copied().collect();
        for port in ports {
            self.read(r, port)?;
        }
        let due = self.runners[r].engine.next_timeout().is_some_and(|(at, _)| at <= self.instant());
        if due {
            self.engine(r, None, |engine, _, now, said| engine.handle_timeout(now, said))?;
        }
        self.engine(r, None, |engine, _, _, said| engine.flush(said))?;
        self.tend(r)?;
        let (start, runner) = (self.start, &mut self.runners[r]);
        runner.due = runner.engine.next_timeout().map(|(at, _)| at.saturating_duration_since(start));
        let unread = runner.tuns.iter().any(|(port, queue)| !queue.is_empty() && !runner.held.contains_key(port));
        if unread || !runner.inbox.is_empty() || runner.lanes.iter().any(|lane| !lane.tales.is_empty()) {
            self.wake_engine(r);
        }
        Ok(())
    }

    fn receive(&mut self, r: usize, from: usize, bytes: &[u8], stride: usize) -> Result<(), Failure> {
        let received = Datagrams { from: endpoint(from).into(), local: None, bytes, stride, skip: 0 };
        self.engine(r, None, |engine, _, now, said| engine.handle_udp(&received, now, said)).map(drop)
    }

    fn hear(&mut self, r: usize, lane: usize, tale: Tale) -> Result<(), Failure> {
        match tale {
            Tale::Done => self.runners[r].lanes[lane].done += 1,
            Tale::News(news, mut packet) => {
                self.engine(r, None, |engine, _, now, said| engine.handle_lane(&news, &mut packet, now, said))?;
            }
            Tale::Stray(from, datagram) => {
                let from = (0..self.runners.len()).find(|other| endpoint(*other) == from);
                self.receive(r, from.unwrap_or_default(), &datagram, datagram.len())?;
            }
        }
        Ok(())
    }

    fn read(&mut self, r: usize, port: Port) -> Result<(), Failure> {
        for _ in 0..1 + self.rng.below(16) {
            if self.runners[r].held.contains_key(&port) {
                break;
            }
            let Some(packet) = self.runners[r].tuns.get_mut(&port).and_then(|queue| queue.pop_front()) else { break };
            self.note_read(&packet, 0);
            self.engine(r, Some((port, packet)), |engine, packet, now, said| {
                engine.handle_tun(port, packet, now, said);
            })?;
        }
        Ok(())
    }

    /// Notes the connection of a packet that an engine has read or handed over.
    fn note_read(&mut self, packet: &[u8], lane: u8) {
        let Some(read) = Read::parse(packet) else { return };
        if let Some((number, from)) = super::connection::of(&read) {
            self.connections[number].note_read(from, &read, lane);
        }
    }

    /// Calls an engine, and passes on its effects. `read`: what was read from a TUN.
    pub(super) fn engine(
        &mut self,
        r: usize,
        mut read: Option<(Port, Packet)>,
        act: impl FnOnce(&mut Engine, &mut [u8], Instant, &mut Said),
    ) -> Result<(), Failure> {
        let (mut said, now) = (Said::default(), self.instant());
        let packet = read.as_mut().map_or(&mut [][..], |(_, packet)| packet);
        act(&mut self.runners[r].engine, packet, now, &mut said);
        for (to, bytes, stride) in said.sent {
            self.send(r, 0, to, bytes, stride);
        }
        self.runners[r].moved.extend(said.moved);
        if let Some(next) = self.pass_orders(r, said.orders, read)? {
            self.hand_over(r, next.0, next.1);
        }
        for (port, packet) in said.delivered {
            self.deliver(r, port, &packet)?;
        }
        Ok(())
    }

    /// Passes the orders on that are about no packet. Returns the one that is about the packet in hand.
    fn pass_orders(
        &mut self,
        r: usize,
        orders: Vec<(LaneIx, Order)>,
        mut read: Option<(Port, Packet)>,
    ) -> Result<Option<(Port, Waiting)>, Failure> {
        let mut next = None;
        for (lane, order) in orders {
            match order.packet() {
                Some((_, moves)) => {
                    let Some((port, packet)) = read.take() else {
                        return Err(self.failure("an order is about a packet that isn't there"));
                    };
                    self.note_read(&packet, lane.0);
                    let moves = moves && self.bug != Some(Bug::MoveNotAwaited);
                    next = Some((port, Waiting { lane, order, packet, moves }));
                }
                None => {
                    let at = usize::from(lane.0) - 1;
                    self.runners[r].lanes[at].jobs.push_back((order, vec![]));
                    self.wake_lane(r, at);
                }
            }
        }
        Ok(next)
    }

    fn hand_over(&mut self, r: usize, port: Port, waiting: Waiting) {
        let at = usize::from(waiting.lane.0) - 1;
        let station = &self.runners[r].lanes[at];
        if waiting.moves || station.given - station.done >= self.room {
            self.tally.waited += u64::from(!waiting.moves);
            self.runners[r].held.insert(port, waiting);
            return;
        }
        let Waiting { lane, order, packet, .. } = waiting;
        if self.bug == Some(Bug::LaneChanged) {
            self.exchange(r, lane, order, packet);
        } else {
            self.give(r, lane, order, packet);
        }
    }

    fn give(&mut self, r: usize, lane: LaneIx, order: Order, packet: Packet) {
        let at = usize::from(lane.0) - 1;
        let station = &mut self.runners[r].lanes[at];
        station.jobs.push_back((order, packet));
        station.given += 1;
        self.wake_lane(r, at);
    }

    /// [`Bug::LaneChanged`]: two packets of connections on different lanes get each other's orders.
    fn exchange(&mut self, r: usize, lane: LaneIx, order: Order, packet: Packet) {
        match self.runners[r].stash.take() {
            Some((other, theirs, earlier)) if other != lane && runner(&theirs) == runner(&order) => {
                self.give(r, lane, order, earlier);
                self.give(r, other, theirs, packet);
            }
            Some((other, theirs, earlier)) => {
                self.give(r, other, theirs, earlier);
                self.give(r, lane, order, packet);
            }
            None if self.rng.chance(5) => self.runners[r].stash = Some((lane, order, packet)),
            None => self.give(r, lane, order, packet),
        }
    }

    /// Ends a turn: hands over what waits, and says which maps are in use.
    fn tend(&mut self, r: usize) -> Result<(), Failure> {
        if let Some((lane, order, packet)) = self.runners[r].stash.take() {
            self.give(r, lane, order, packet);
        }
        for (port, by_lane) in std::mem::take(&mut self.runners[r].moved) {
            if by_lane {
                self.tally.moved += 1
            } else {
                self.tally.stayed += 1
            }
            if !by_lane {
                self.judge_again(r, port, false)?;
            } else if let Some(waiting) = self.runners[r].held.remove(&port) {
                self.hand_over(r, port, Waiting { moves: false, ..waiting });
            }
        }
        let for_room = self.runners[r].held.iter().filter(|(_, waiting)| !waiting.moves).map(|(port, _)| *port);
        for port in for_room.collect::<Vec<_>>() {
            if let Some(waiting) = self.runners[r].held.remove(&port) {
                self.hand_over(r, port, waiting);
            }
        }
        self.note_applied(r);
        Ok(())
    }

    fn note_applied(&mut self, r: usize) {
        let runner = &mut self.runners[r];
        while let Some((revision, given)) = runner.applying.front() {
            let over = given.iter().zip(&runner.lanes).all(|(given, lane)| lane.done >= *given);
            if !over && self.bug != Some(Bug::StaleAfterApplied) {
                break;
            }
            runner.applied = *revision;
            runner.applying.pop_front();
        }
    }

    /// Judges a packet that waits anew. `moves`: it goes on waiting for the end of its move.
    fn judge_again(&mut self, r: usize, port: Port, moves: bool) -> Result<(), Failure> {
        let Some(Waiting { order, mut packet, moves: waited, .. }) = self.runners[r].held.remove(&port) else {
            return Ok(());
        };
        let Some((to, _)) = order.packet() else { return Ok(()) };
        let (mut said, now) = (Said::default(), self.instant());
        self.runners[r].engine.handle_again(port, to, &mut packet, now, &mut said);
        let Said { sent, delivered, orders, moved } = said;
        for (to, bytes, stride) in sent {
            self.send(r, 0, to, bytes, stride);
        }
        self.runners[r].moved.extend(moved);
        if let Some((port, next)) = self.pass_orders(r, orders, Some((port, packet)))? {
            let moves = next.moves || waited && moves;
            self.hand_over(r, port, Waiting { moves, ..next });
        }
        delivered.into_iter().try_for_each(|(port, packet)| self.deliver(r, port, &packet))
    }

    /// A runner gets the latest map.
    pub(super) fn take_map(&mut self, r: usize) -> Result<(), Failure> {
        let (map, revision) = (self.plan.map(r, self.revision, None), self.revision);
        for one in self.connections.iter_mut().filter(|one| one.revoked.is_some()) {
            for from in [0, 1].into_iter().filter(|from| self.plan.seats[one.seats[*from]].runner == r) {
                let (barred, half) = (one.is_barred(revision), &mut one.halves[from]);
                half.cut = if barred { half.cut.or(Some(half.read)) } else { None };
            }
        }
        self.runners[r].revision = revision;
        self.engine(r, None, |engine, _, now, said| engine.handle_map(map, now, said))?;
        for port in self.runners[r].held.keys().copied().collect::<Vec<_>>() {
            self.judge_again(r, port, true)?;
        }
        let runner = &mut self.runners[r];
        runner.applying.push_back((revision, runner.lanes.iter().map(|lane| lane.given).collect()));
        self.note_applied(r);
        self.wake_engine(r);
        Ok(())
    }
}

fn runner(order: &Order) -> Option<mesh_proto::RunnerId> {
    order.packet().map(|(runner, _)| runner)
}
