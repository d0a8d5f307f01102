//! An instance's TCP, as far as the mesh can notice it: handshakes with retransmission, RSTs that are accepted only
//! with the right number (RFC 9293 §3.10.7, RFC 5961 §3 and §4), and one question at a time.

use std::{collections::BTreeMap, net::Ipv4Addr};

use mesh_engine::Port;
use mesh_proto::InstanceId;

use crate::{
    packet::{ACK, RST, Read, SYN, Tcp},
    reference::{Release, Service},
};

/// How often a SYN, or a question, is sent, one second apart.
pub(crate) const TRIES: u32 = 6;

/// A question and its answer.
const QUESTION: u8 = 1;
const ANSWER: u8 = 2;

/// An address and a port.
pub(crate) type End = (Ipv4Addr, u16);

pub(crate) struct Host {
    pub(crate) instance: InstanceId,
    pub(crate) service: Service,
    pub(crate) address: Ipv4Addr,
    pub(crate) port: Port,
    pub(crate) release: Release,
    /// Its service was deleted: it goes on, but no packet of it may arrive.
    pub(crate) ended: bool,
    /// It accepts no new connections: it is draining, or refuses them itself.
    pub(crate) draining: bool,
    pub(crate) refuses: bool,
    next_port: u16,
    next_isn: u32,
    /// By the local end and the other end.
    pub(crate) connections: BTreeMap<(End, End), Connection>,
}

/// The state of a connection at one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// This end has sent a SYN.
    Asking,
    /// This end has answered a SYN.
    Answering,
    Open,
    /// It was reset, or refused.
    Reset,
}

/// One end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) phase: Phase,
    /// This end has opened it.
    pub(crate) calls: bool,
    /// How often the SYN, or the pending question, was sent.
    tries: u32,
    /// The next sequence number to send, and the next one that is expected.
    sends: u32,
    expects: u32,
    /// A question is pending.
    asks: bool,
    /// Both initial sequence numbers. That of the other end identifies it.
    pub(crate) ours: u32,
    pub(crate) theirs: u32,
    /// The callee; at the callee's end, the service of the instance.
    pub(crate) service: Service,
    /// The right to it, or its other end, was gone at some time: it may be reset.
    pub(crate) doomed: bool,
    /// RST, or destination unreachable with this code: everything that arrived while it was opened.
    pub(crate) refusals: Vec<Option<u8>>,
    /// The number of answered questions.
    pub(crate) answers: u32,
}

impl Host {
    pub(crate) const fn new(instance: InstanceId, service: Service, address: Ipv4Addr, port: Port) -> Self {
        let InstanceId(number) = instance;
        Self {
            instance,
            service,
            address,
            port,
            release: None,
            ended: false,
            draining: false,
            refuses: false,
            // A container that replaces another one starts with other numbers.
            next_port: 30_000 + (port.0 % 64) as u16 * 400,
            next_isn: (number as u32).wrapping_mul(20_000_000).wrapping_add(port.0.wrapping_mul(7919)),
            connections: BTreeMap::new(),
        }
    }

    /// Starts a connection. The SYN has to be sent, and the pair of ends has to be watched.
    pub(crate) fn connect(&mut self, to: End, service: Service) -> ((End, End), Tcp) {
        self.next_port = self.next_port.checked_add(1).unwrap_or(30_000);
        self.next_isn = self.next_isn.wrapping_add(100_003);
        let ends = ((self.address, self.next_port), to);
        let connection = Connection {
            phase: Phase::Asking,
            calls: true,
            tries: 1,
            sends: self.next_isn,
            expects: 0,
            asks: false,
            ours: self.next_isn,
            theirs: 0,
            service,
            doomed: false,
            refusals: vec![],
            answers: 0,
        };
        let syn = connection.segment(ends, SYN, None);
        self.connections.insert(ends, connection);
        (ends, syn)
    }

    /// Sends a question on a standing connection.
    pub(crate) fn ask(&mut self, ends: (End, End)) -> Option<Tcp> {
        let connection = self.connections.get_mut(&ends).filter(|c| c.phase == Phase::Open && !c.asks)?;
        (connection.asks, connection.tries) = (true, 1);
        Some(connection.segment(ends, ACK, Some(QUESTION)))
    }

    /// The segments that have to be retransmitted.
    pub(crate) fn again(&mut self, ends: (End, End)) -> Option<Tcp> {
        let connection = self.connections.get_mut(&ends)?;
        let waits = connection.phase == Phase::Asking || (connection.phase == Phase::Open && connection.asks);
        if !waits || connection.tries >= TRIES {
            connection.asks = false;
            return None;
        }
        connection.tries += 1;
        let opens = connection.phase == Phase::Asking;
        Some(if opens { connection.segment(ends, SYN, None) } else { connection.segment(ends, ACK, Some(QUESTION)) })
    }

    /// Ends a connection. The RST has to be sent.
    pub(crate) fn abort(&mut self, ends: (End, End)) -> Option<Tcp> {
        let connection = self.connections.remove(&ends)?;
        (connection.phase == Phase::Open).then(|| connection.segment(ends, RST | ACK, None))
    }

    /// Handles a packet from the TUN. The answer has to be sent.
    pub(crate) fn receive(&mut self, read: Read) -> Option<Tcp> {
        let segment = match read {
            Read::Tcp(segment) => segment,
            Read::Unreachable { code, port, destination } => {
                let connection = self.connections.get_mut(&((self.address, port), destination))?;
                if connection.phase == Phase::Asking {
                    connection.refusals.push(Some(code));
                    connection.phase = Phase::Reset;
                }
                return None;
            }
            Read::Other => return None,
        };
        let ends = (segment.destination, segment.source);
        if segment.opens() {
            return self.take_syn(ends, segment);
        }
        let Some(connection) = self.connections.get_mut(&ends).filter(|c| c.phase != Phase::Reset) else {
            return strange(segment);
        };
        if segment.flags & RST != 0 {
            return connection.take_reset(ends, segment);
        }
        match connection.phase {
            Phase::Asking => {
                let right = segment.flags & SYN != 0 && segment.acknowledgment == connection.sends.wrapping_add(1);
                if !right {
                    return strange(segment);
                }
                connection.phase = Phase::Open;
                connection.sends = connection.sends.wrapping_add(1);
                connection.expects = segment.sequence.wrapping_add(1);
                connection.theirs = segment.sequence;
                Some(connection.segment(ends, ACK, None))
            }
            // The answer to its SYN-ACK was lost.
            Phase::Open if segment.flags & SYN != 0 => Some(connection.segment(ends, ACK, None)),
            _ => {
                if segment.flags & ACK != 0 && connection.phase == Phase::Answering {
                    connection.phase = Phase::Open;
                }
                connection.take_data(ends, segment)
            }
        }
    }

    fn take_syn(&mut self, ends: (End, End), segment: Tcp) -> Option<Tcp> {
        if let Some(connection) = self.connections.get(&ends).filter(|c| c.phase != Phase::Reset) {
            let same = connection.phase == Phase::Answering && connection.expects == segment.sequence.wrapping_add(1);
            // Anything but a retransmission gets an ACK. An end that has forgotten this connection answers it with a
            // RST.
            return Some(match same {
                true => connection.answer(ends),
                false => connection.segment(ends, ACK, None),
            });
        }
        if self.refuses {
            return strange(segment);
        }
        self.next_isn = self.next_isn.wrapping_add(100_003);
        let connection = Connection {
            phase: Phase::Answering,
            calls: false,
            tries: 0,
            sends: self.next_isn.wrapping_add(1),
            expects: segment.sequence.wrapping_add(1),
            asks: false,
            ours: self.next_isn,
            theirs: segment.sequence,
            service: self.service,
            doomed: false,
            refusals: vec![],
            answers: 0,
        };
        let answer = connection.answer(ends);
        self.connections.insert(ends, connection);
        Some(answer)
    }
}

impl Connection {
    pub(crate) const fn sends(&self) -> u32 {
        self.sends
    }

    pub(crate) const fn expects(&self) -> u32 {
        self.expects
    }

    fn segment(&self, (ours, theirs): (End, End), flags: u8, data: Option<u8>) -> Tcp {
        let acknowledgment = if flags & ACK != 0 { self.expects } else { 0 };
        Tcp { source: ours, destination: theirs, sequence: self.sends, acknowledgment, flags, data }
    }

    /// This end's SYN-ACK.
    fn answer(&self, ends: (End, End)) -> Tcp {
        Tcp { sequence: self.sends.wrapping_sub(1), ..self.segment(ends, SYN | ACK, None) }
    }

    fn take_reset(&mut self, ends: (End, End), segment: Tcp) -> Option<Tcp> {
        let right = match self.phase {
            Phase::Asking => segment.flags & ACK != 0 && segment.acknowledgment == self.sends.wrapping_add(1),
            _ => segment.sequence == self.expects,
        };
        if right {
            if self.phase == Phase::Asking {
                self.refusals.push(None);
            }
            self.phase = Phase::Reset;
            return None;
        }
        // A challenge ACK, if it is within the window.
        let near = segment.sequence.wrapping_sub(self.expects) < 0xffff;
        (self.phase != Phase::Asking && near).then(|| self.segment(ends, ACK, None))
    }

    fn take_data(&mut self, ends: (End, End), segment: Tcp) -> Option<Tcp> {
        match segment.data? {
            QUESTION if segment.sequence == self.expects => {
                self.expects = self.expects.wrapping_add(1);
                let answer = self.segment(ends, ACK, Some(ANSWER));
                self.sends = self.sends.wrapping_add(1);
                Some(answer)
            }
            // The answer was lost.
            QUESTION if segment.sequence.wrapping_add(1) == self.expects => {
                let answer = self.segment(ends, ACK, Some(ANSWER));
                Some(Tcp { sequence: self.sends.wrapping_sub(1), ..answer })
            }
            ANSWER if segment.sequence == self.expects && self.asks => {
                self.asks = false;
                self.answers += 1;
                (self.expects, self.sends) = (self.expects.wrapping_add(1), self.sends.wrapping_add(1));
                Some(self.segment(ends, ACK, None))
            }
            _ => None,
        }
    }
}

/// The answer to a segment of no connection (RFC 9293 §3.10.7.1).
fn strange(segment: Tcp) -> Option<Tcp> {
    if segment.flags & RST != 0 {
        return None;
    }
    let (source, destination) = (segment.destination, segment.source);
    let length = u32::from(segment.flags & SYN != 0) + u32::from(segment.data.is_some());
    Some(match segment.flags & ACK {
        0 => {
            let acknowledgment = segment.sequence.wrapping_add(length);
            Tcp { source, destination, sequence: 0, acknowledgment, flags: RST | ACK, data: None }
        }
        _ => {
            let sequence = segment.acknowledgment;
            Tcp { source, destination, sequence, acknowledgment: 0, flags: RST, data: None }
        }
    })
}
