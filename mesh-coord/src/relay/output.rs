//! Sends to clients: batches of datagrams, or frames on a connection.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use mesh_relay::{Counters, Sink, Way, framed};
use mesh_udp::Udp;
use nix::libc;

use super::shared::Streams;

/// A thread's way to all clients.
#[derive(Debug)]
pub(super) struct Output<'a> {
    pub(super) udp: &'a Udp,
    pub(super) batches: &'a mut Batches,
    pub(super) streams: &'a Streams,
    pub(super) counters: &'a Counters,
}

/// The IP families with a route that can't take batches (`EIO`: IPsec, or a device without checksum offload before
/// Linux 6.11).
#[derive(Debug, Default)]
pub(super) struct Batches {
    v4_off: bool,
    v6_off: bool,
}

impl Sink for Output<'_> {
    fn send(&mut self, to: &Way, batch: &[u8], stride: usize) {
        match to {
            Way::Udp { remote, local } => self.datagrams(*local, *remote, batch, stride),
            Way::Stream { id, .. } => {
                let mut bytes = Vec::with_capacity(batch.len() + 64);
                framed(batch, stride, &mut bytes);
                if !self.streams.send(*id, bytes) {
                    self.counters.dropped_stream_full.add(batch.len().div_ceil(stride.max(1)));
                }
            }
        }
    }
}

impl Output<'_> {
    /// Sends datagrams, all in one call if that works, else singly. A full buffer is not tried again.
    fn datagrams(&mut self, from: Option<IpAddr>, to: SocketAddr, batch: &[u8], stride: usize) {
        let off = if to.is_ipv4() { &mut self.batches.v4_off } else { &mut self.batches.v6_off };
        let segment = u16::try_from(stride).ok().filter(|_| batch.len() > stride && !*off);
        if segment.is_some() {
            match self.udp.send(from, to, batch, segment) {
                Ok(()) => return,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EIO) => *off = true,
                    // The pieces may be too long for this route.
                    Some(libc::EINVAL | libc::EMSGSIZE) => {}
                    _ => return self.counters.dropped_send.add(batch.len().div_ceil(stride.max(1))),
                },
            }
        }
        for datagram in batch.chunks(stride.max(1)) {
            if self.single(from, to, datagram).is_err() {
                self.counters.dropped_send.add(1);
            }
        }
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// The error of sendmsg(2).
    pub(super) fn single(&self, from: Option<IpAddr>, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        self.udp.send(from, to, datagram, None)
    }
}
