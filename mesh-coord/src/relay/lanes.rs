//! Receive buffers of single clients. The clients of a thread share its socket's buffer until that overflows. From then
//! on each client that sends gets a buffer of its own: a connected socket on the same port, which the kernel prefers.
//! So a client that floods the relay fills its own buffer, and strangers fill the one that is shared.

use std::{io, net::SocketAddr, os::fd::AsFd as _, time::Duration};

use mesh_udp::{Inbox, Message, Udp};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The clients of all threads that have a buffer of their own at once. Before Linux 6.13, the kernel looks at each of
/// them for each datagram.
const MOST: usize = 128;
/// Each thread may have this many, however many threads there are.
const LEAST: usize = 4;
/// How long clients get buffers after the shared one has overflowed.
const CROWDED: Duration = Duration::from_secs(1);
/// A client that was silent for so long makes room for another one.
const YIELDS: Duration = Duration::from_secs(1);
/// A client that was silent for so long is back at the shared buffer.
const SILENT: Duration = Duration::from_secs(60);

/// What the shared buffer holds at most: 8 MiB are asked for, and the kernel doubles that (socket(7)).
const BUFFER: usize = 16 << 20;
/// What a message takes in a buffer at least, beside its bytes.
pub(super) const OVERHEAD: usize = 512;

/// A client's socket, which receives only.
#[derive(Debug)]
struct Lane {
    udp: Udp,
    remote: SocketAddr,
    /// When something came last, since the relay's start.
    heard: Duration,
    /// How much of the shared buffer is received first, in which older datagrams of the client may be.
    behind: usize,
}

/// The sockets of one thread's clients.
#[derive(Debug)]
pub(super) struct Lanes {
    open: Vec<Lane>,
    most: usize,
    /// What the shared buffer had overflowed by when it was last looked at.
    overflow: u32,
    crowded_until: Duration,
}

impl Lanes {
    /// None yet, for one of so many threads.
    pub(super) fn new(threads: usize) -> Self {
        let most = (MOST / threads.max(1)).max(LEAST);
        Self { open: Vec::new(), most, overflow: 0, crowded_until: Duration::ZERO }
    }

    /// Whether any client has one.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes how many messages the shared buffer had no room for. Returns how many of them are new.
    pub(super) fn note_overflow(&mut self, overflow: u32, now: Duration) -> u32 {
        let new = overflow.wrapping_sub(self.overflow);
        if new > 0 {
            self.overflow = overflow;
            self.crowded_until = now + CROWDED;
        }
        new
    }

    /// Whether a client whose datagrams come by the shared buffer gets its own.
    pub(super) fn are_needed(&self, now: Duration) -> bool {
        now < self.crowded_until
    }

    /// Opens one for a client. Returns whether there is room.
    pub(super) fn open(&mut self, local: SocketAddr, remote: SocketAddr, now: Duration) -> bool {
        // What was on its way to the shared socket may still come from there.
        if self.open.iter().any(|lane| lane.remote == remote) || !self.make_room(now) {
            return false;
        }
        let Ok(udp) = Udp::bind_for(local, remote) else { return false };
        let _ = udp.set_gro(true);
        self.open.push(Lane { udp, remote, heard: now, behind: BUFFER });
        true
    }

    fn make_room(&mut self, now: Duration) -> bool {
        if self.open.len() < self.most {
            return true;
        }
        let silent = self.open.iter().enumerate().min_by_key(|(_, lane)| lane.heard);
        let Some((at, _)) = silent.filter(|(_, lane)| now >= lane.heard + YIELDS) else { return false };
        self.open.swap_remove(at);
        true
    }

    /// So much of the shared buffer was received, each message with its [`OVERHEAD`]. `more`: there may be more in it.
    /// Before a client's older datagrams have come from there, its own buffer isn't read.
    pub(super) fn note_received(&mut self, bytes: usize, more: bool) {
        for lane in &mut self.open {
            lane.behind = if more { lane.behind.saturating_sub(bytes) } else { 0 };
        }
    }

    /// Waits until something has come by `shared` or by one of these, if it is to wait. Returns whether `shared` has
    /// something, and which of these have that are to be read.
    pub(super) fn poll(&mut self, shared: &Udp, wait: bool) -> io::Result<(bool, Vec<usize>)> {
        let sockets = std::iter::once(shared).chain(self.open.iter().map(|lane| &lane.udp));
        let mut sockets: Vec<PollFd<'_>> = sockets.map(|udp| PollFd::new(udp.as_fd(), PollFlags::POLLIN)).collect();
        poll(&mut sockets, if wait { PollTimeout::NONE } else { PollTimeout::ZERO })?;
        let ready: Vec<bool> = sockets.iter().map(|socket| socket.any().unwrap_or_default()).collect();
        let Some((&is_ready, ready)) = ready.split_first() else { return Ok((false, vec![])) };
        if !is_ready {
            self.note_received(0, false);
        }
        let ready = ready.iter().zip(&self.open).enumerate().filter(|(_, (ready, lane))| **ready && lane.behind == 0);
        Ok((is_ready, ready.map(|(at, _)| at).collect()))
    }

    /// Receives from one of these. Others' datagrams may have come there while it was opened.
    pub(super) fn receive<'a>(
        &mut self,
        at: usize,
        inbox: &'a mut Inbox,
        now: Duration,
    ) -> impl Iterator<Item = Message<'a>> {
        let received = self.open.get_mut(at).is_some_and(|lane| {
            lane.heard = now;
            // What an earlier datagram has met on its way (ICMP) is no fault of the socket.
            lane.udp.receive(inbox).is_ok()
        });
        inbox.messages().take_while(move |_| received)
    }

    /// Closes those of clients that are silent.
    pub(super) fn close_silent(&mut self, now: Duration) {
        self.open.retain(|lane| now < lane.heard + SILENT);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, UdpSocket};

    use super::*;

    /// So many datagrams of a kilobyte fit no receive buffer.
    const FLOOD: usize = 20_000;
    const FEW: usize = 100;

    fn say(from: &UdpSocket, number: usize) {
        (0..number).for_each(|_| drop(from.send(&[0; 1024])));
    }

    /// Takes all that is in a socket; returns how many datagrams are of a client.
    fn of(client: &UdpSocket, mut receive: impl FnMut(&mut Inbox)) -> usize {
        let (mut inbox, mut number, client) = (Inbox::new(65_535), 0, client.local_addr().unwrap());
        loop {
            receive(&mut inbox);
            let count = inbox.messages().map(|message| (message.from, message.datagrams.len() / 1024));
            number += count.filter(|(from, _)| *from == client).map(|(_, number)| number).sum::<usize>();
            if !inbox.is_full() {
                return number;
            }
        }
    }

    fn keeps_its_datagrams(ip: IpAddr) {
        let shared = Udp::bind_shared((ip, 0).into()).unwrap();
        let local: SocketAddr = (ip, shared.port().unwrap()).into();
        let [flood, client] = [(); 2].map(|()| {
            let socket = UdpSocket::bind((ip, 0)).unwrap();
            socket.connect(local).unwrap();
            socket
        });
        let mut lanes = Lanes::new(1);
        say(&flood, FLOOD);
        say(&client, FEW);
        assert_eq!(of(&client, |inbox| shared.receive(inbox).unwrap()), 0, "no room is left for it");
        say(&client, 1);
        let now = Duration::from_secs(1);
        let mut inbox = Inbox::new(65_535);
        shared.receive(&mut inbox).unwrap();
        assert!(lanes.note_overflow(inbox.overflow(), now) > 0 && lanes.are_needed(now));
        assert_eq!(lanes.note_overflow(inbox.overflow(), now), 0, "nothing new");
        assert!(!lanes.are_needed(now + CROWDED));

        let remote = client.local_addr().unwrap();
        assert!(lanes.open(local, remote, now) && !lanes.open(local, remote, now), "one each");
        say(&flood, FLOOD);
        say(&client, FEW);
        assert_eq!(lanes.poll(&shared, false).unwrap(), (true, vec![]), "the shared buffer may hold older ones");
        lanes.note_received(BUFFER - 1, true);
        assert_eq!(lanes.poll(&shared, false).unwrap(), (true, vec![]));
        lanes.note_received(1, true);
        assert_eq!(lanes.poll(&shared, false).unwrap(), (true, vec![0]));
        assert_eq!(of(&client, |inbox| lanes.receive(0, inbox, now).for_each(drop)), FEW);
        assert_eq!(of(&client, |inbox| shared.receive(inbox).unwrap()), 0);

        assert!(lanes.open(local, flood.local_addr().unwrap(), now));
        say(&flood, 1);
        assert_eq!(lanes.poll(&shared, true).unwrap(), (false, vec![1]), "the shared buffer is empty");
    }

    #[test]
    fn a_client_with_a_buffer_of_its_own_loses_nothing_to_a_flood() {
        keeps_its_datagrams([127, 0, 0, 1].into());
        keeps_its_datagrams(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]));
    }

    #[test]
    fn the_client_that_was_silent_longest_makes_room() {
        let shared = Udp::bind_shared("127.0.0.1:0".parse().unwrap()).unwrap();
        let local: SocketAddr = ([127, 0, 0, 1], shared.port().unwrap()).into();
        let remote = |port: u16| SocketAddr::from(([127, 0, 0, 2], port));
        let mut lanes = Lanes::new(MOST);
        let now = Duration::from_secs(9);
        for port in 1..=4 {
            assert!(lanes.open(local, remote(port), now));
        }
        assert!(!lanes.open(local, remote(5), now), "all of them have just sent");
        let later = now + YIELDS;
        lanes.receive(0, &mut Inbox::new(1), later).for_each(drop);
        assert!(lanes.open(local, remote(5), later));
        let open: Vec<u16> = lanes.open.iter().map(|lane| lane.remote.port()).collect();
        assert_eq!(open, [1, 4, 3, 5]);
        lanes.close_silent(now + SILENT);
        assert_eq!(lanes.open.len(), 2);
    }
}
