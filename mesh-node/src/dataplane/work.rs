//! What the data plane's thread has to do with the other lanes.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use mesh_engine::{Datagrams, Port, TUN_BUFFER};

use super::{
    event::DataEvent,
    lanes::{Read, Tale, Waiting},
    worker::Worker,
};

/// How much is heard of the lanes in one turn.
const TALES: usize = 128;

impl Worker {
    /// Handles what the lanes say.
    ///
    /// # Errors
    /// If one has failed.
    pub(super) fn listen_to_lanes(&mut self) -> io::Result<()> {
        for _ in 0..TALES {
            let Some((lane, tale)) = self.lanes.next_tale() else {
                self.unheard = false;
                return Ok(());
            };
            let now = Instant::now();
            match tale {
                Tale::Done(buffer) => self.lanes.give_spare(buffer),
                Tale::News(news, packet) => {
                    let (mut bytes, len) = packet.map_or((Box::default(), 0), |packet| packet);
                    self.engine.handle_lane(&news, bytes.get_mut(..len).unwrap_or_default(), now, &mut self.io);
                    if bytes.len() == TUN_BUFFER {
                        self.lanes.give_back(lane, bytes);
                    }
                }
                Tale::Stray(from, local, datagram) => self.take_stray((from, local, &datagram), now),
                Tale::Failed(why) => return Err(io::Error::other(why)),
            }
            self.pass_orders(None);
        }
        self.unheard = true;
        Ok(())
    }

    fn take_stray(&mut self, (from, local, bytes): (SocketAddr, Option<IpAddr>, &[u8]), now: Instant) {
        let received = Datagrams { from: from.into(), local, bytes, stride: bytes.len(), skip: 0 };
        self.engine.handle_udp(&received, now, &mut self.io);
    }

    /// Hands the engine's orders over. `read` is the packet in hand, which goes with an order that is about it. Returns whether
    /// that one has to wait.
    pub(super) fn pass_orders(&mut self, mut read: Option<Read>) -> bool {
        let mut waits = false;
        if self.io.orders.is_empty() {
            return waits;
        }
        let mut orders = std::mem::take(&mut self.io.orders);
        for (lane, order) in orders.drain(..) {
            match (order.packet(), read.take()) {
                (Some((_, moves)), Some(Read { port, length, segments })) => {
                    let bytes = std::mem::replace(&mut self.packet, self.lanes.take_spare());
                    waits =
                        !self.hand_over(port, Waiting { lane, order, packet: (bytes, length), segments, moves }, true);
                }
                (_, unused) => {
                    read = unused;
                    self.lanes.command(lane, order);
                }
            }
        }
        // Nothing was added meanwhile: the room is used again.
        self.io.orders = orders;
        waits
    }

    /// Hands a packet over. Without room, or during a move, its TUN isn't read any more, and the result is false.
    fn hand_over(&mut self, port: Port, waiting: Waiting, fresh: bool) -> bool {
        let waiting = if waiting.moves { Some(waiting) } else { self.lanes.give(port, waiting, fresh) };
        let Some(waiting) = waiting else {
            self.listen_to(port, true);
            return true;
        };
        self.lanes.held.put(port, waiting);
        self.listen_to(port, false);
        false
    }

    fn listen_to(&mut self, port: Port, readable: bool) {
        if self.lanes.held.is_muted(port) == readable
            && let Some(queue) = self.io.queue(port)
        {
            // It fails only for a descriptor that isn't there.
            let _ = self.poll.set_readable(queue, port.0.into(), readable);
            self.lanes.held.mute(port, !readable);
        }
    }

    /// The map has changed: packets that wait are judged anew.
    pub(super) fn judge_held_again(&mut self) {
        self.pass_orders(None);
        for port in self.lanes.held.all() {
            self.judge_again(port, true);
        }
    }

    /// Judges a packet that waits anew. `moves`: it goes on waiting for the end of its move.
    fn judge_again(&mut self, port: Port, moves: bool) {
        let Some(Waiting { order, packet: (mut bytes, len), segments, moves: moved, .. }) = self.lanes.held.take(port)
        else {
            return;
        };
        let Some((runner, _)) = order.packet() else { return };
        let packet = bytes.get_mut(..len).unwrap_or_default();
        self.engine.handle_again(port, runner, packet, Instant::now(), &mut self.io);
        let mut next = None;
        let mut orders = std::mem::take(&mut self.io.orders);
        for (lane, order) in orders.drain(..) {
            match order.packet() {
                Some((_, waits)) => next = Some((lane, order, waits)),
                None => self.lanes.command(lane, order),
            }
        }
        self.io.orders = orders;
        match next {
            Some((lane, order, waits)) => {
                self.hand_over(
                    port,
                    Waiting { lane, order, packet: (bytes, len), segments, moves: waits || moved && moves },
                    false,
                );
            }
            None => {
                self.lanes.give_spare(bytes);
                self.listen_to(port, true);
            }
        }
    }

    /// Ends a turn: hands over what waits, wakes the lanes, and reports the maps that are in use.
    pub(super) fn tend_lanes(&mut self) {
        self.pass_orders(None);
        for (port, by_lane) in std::mem::take(&mut self.io.moved) {
            if !by_lane {
                self.judge_again(port, false);
            } else if let Some(waiting) = self.lanes.held.take(port) {
                self.hand_over(port, Waiting { moves: false, ..waiting }, false);
            }
        }
        while let Some(port) = self.lanes.next_with_room() {
            let Some(waiting) = self.lanes.held.take(port) else { break };
            if !self.hand_over(port, waiting, false) {
                break;
            }
        }
        while let Some(revision) = self.lanes.take_applied() {
            self.io.notify(DataEvent::Applied(revision));
        }
        self.lanes.wake();
    }
}
