//! An instance's end: opens connections, takes all that come, and keeps what it heard.

use std::{collections::BTreeMap, net::Ipv4Addr};

use mesh_engine::Port;
use mesh_proto::InstanceId;

use crate::{
    packet::{ACK, RST, Read, SYN, Tcp},
    reference::Service,
};

/// How often a SYN is sent, one second apart.
pub(crate) const TRIES: u32 = 6;

pub(crate) struct Host {
    pub(crate) instance: InstanceId,
    pub(crate) service: Service,
    pub(crate) address: Ipv4Addr,
    pub(crate) port: Port,
    /// Its service was deleted: it goes on, and must be heard by nobody.
    pub(crate) ended: bool,
    next_port: u16,
    pub(crate) attempts: BTreeMap<u16, Attempt>,
}

/// A connection that this end opens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attempt {
    pub(crate) to: Option<(Ipv4Addr, u16)>,
    pub(crate) syns: u32,
    pub(crate) connected: bool,
    /// RST, or destination unreachable with this code: all that came.
    pub(crate) refusals: Vec<Option<u8>>,
    /// Data that was answered.
    pub(crate) echoed: u32,
}

impl Host {
    pub(crate) const fn new(instance: InstanceId, service: Service, address: Ipv4Addr, port: Port) -> Self {
        Self { instance, service, address, port, ended: false, next_port: 30_000, attempts: BTreeMap::new() }
    }

    /// Begins a connection; the SYN is to be sent, and the local port watched.
    pub(crate) fn connect(&mut self, to: (Ipv4Addr, u16)) -> (u16, Tcp) {
        self.next_port = self.next_port.checked_add(1).unwrap_or(30_000);
        self.attempts.insert(self.next_port, Attempt { to: Some(to), ..Attempt::default() });
        let syn = self.syn(self.next_port).unwrap_or_else(|| unreachable!("the attempt was made just now"));
        (self.next_port, syn)
    }

    /// The (next) SYN of an attempt, unless it has come to an end or been given up.
    pub(crate) fn syn(&mut self, port: u16) -> Option<Tcp> {
        let attempt = self.attempts.get_mut(&port)?;
        let over = attempt.connected || !attempt.refusals.is_empty() || attempt.syns >= TRIES;
        attempt.syns += 1;
        let source = (self.address, port);
        (!over).then(|| Tcp { source, destination: attempt.to.unwrap_or(source), sequence: 1, flags: SYN, data: None })
    }

    /// Data on a connection that stands; it is answered if it arrives.
    pub(crate) fn data(&self, port: u16) -> Option<Tcp> {
        let attempt = self.attempts.get(&port).filter(|a| a.connected)?;
        Some(Tcp { source: (self.address, port), destination: attempt.to?, sequence: 2, flags: ACK, data: Some(1) })
    }

    /// Takes what came out of the TUN; the answer is to be sent.
    pub(crate) fn receive(&mut self, read: Read) -> Option<Tcp> {
        let segment = match read {
            Read::Tcp(segment) => segment,
            Read::Unreachable { code, port, destination } => {
                if let Some(attempt) = self.attempts.get_mut(&port).filter(|a| a.to == Some(destination)) {
                    attempt.refusals.push(Some(code));
                }
                return None;
            }
            Read::Other => return None,
        };
        let answer = |flags, data| {
            Some(Tcp {
                source: segment.destination,
                destination: segment.source,
                sequence: segment.sequence,
                flags,
                data,
            })
        };
        let attempt = self.attempts.get_mut(&segment.destination.1).filter(|a| a.to == Some(segment.source));
        match (attempt, segment.flags) {
            (_, flags) if flags & RST == 0 && segment.opens() => answer(SYN | ACK, None),
            (Some(attempt), flags) if flags & RST != 0 => {
                attempt.refusals.push(None);
                None
            }
            (Some(attempt), flags) if flags & SYN != 0 => {
                attempt.connected = true;
                answer(ACK, None)
            }
            (Some(attempt), _) => {
                attempt.echoed += u32::from(segment.data == Some(2));
                None
            }
            // The callee's side of a connection: data is answered, all else taken.
            (None, flags) if flags & RST == 0 && segment.data == Some(1) => answer(ACK, Some(2)),
            (None, _) => None,
        }
    }
}
