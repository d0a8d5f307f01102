//! Many connections at once, from one namespace, held open.
//!
//! [`NamedServer`] is the other side. [`Load`] is a crowd of short connections, and [`Transfer`] a long and busy one:
//!
//! ```text
//! let servers = [&a, &b].map(|instance| NamedServer::start(&instance.namespace, &instance.id, 80));
//! let mut crowd = Crowd::gather(&app.namespace, a.service_address, 80, 300);
//! assert_eq!(crowd.spread(), [(a.id, 150), (b.id, 150)]);
//! crowd.assert_all_answer();
//! let of_a = crowd.split_off(&a.id);              // a Crowd of its own
//! a_is_gone();  of_a.wait_all(Condition::Reset);  // by poll, nothing is read or written
//! let busy: Vec<Transfer> = crowd.transfer(Pace::Steady);   // every byte is checked, both ways at once
//! let load = Load::start(&app.namespace, a.service_address, 80, 4);
//! wait::until_true("…", || load.done() > 1000);
//! assert_eq!(load.finish().failures, []);
//! ```

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    os::fd::AsFd,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{Namespace, Pace, Transfer, speech, traffic, wait};

#[cfg(doc)]
use crate::{Load, NamedServer};

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// It stands, as far as this end knows.
    Open,
    /// The other end has closed it (FIN).
    Ended,
    /// It was reset: by a RST (ECONNRESET, or EPIPE), or at this end (ECONNABORTED).
    Reset,
    /// It has failed with another error (errno).
    Failed(i32),
}

/// Connections to a [`NamedServer`], held open.
pub struct Crowd {
    members: Vec<Member>,
}

/// A connection.
pub struct Member {
    /// The connection.
    pub stream: TcpStream,
    /// The name of the server that it reached.
    pub at: String,
    condition: Condition,
}

impl Crowd {
    /// Opens `count` connections, one after another, each by a blocking `connect`, and asks each for the name of its
    /// server.
    ///
    /// # Panics
    /// If a `connect` or an answer fails.
    #[must_use]
    #[track_caller]
    pub fn gather(namespace: &Namespace, to: Ipv4Addr, port: u16, count: usize) -> Self {
        let mut crowd = Self { members: Vec::with_capacity(count) };
        let gathered = namespace.enter(|| crowd.add(to, port, count));
        gathered.unwrap_or_else(|e| panic!("connection {} of {count} to {to}:{port}: {e}", crowd.len() + 1));
        crowd
    }

    fn add(&mut self, to: Ipv4Addr, port: u16, count: usize) -> io::Result<()> {
        for _ in 0..count {
            self.members.push(Member::reach(traffic::connect(to, port)?)?);
        }
        Ok(())
    }

    /// Adds connections that were opened otherwise.
    ///
    /// # Panics
    /// If one of them gets no name.
    #[must_use]
    #[track_caller]
    pub fn of(streams: impl IntoIterator<Item = TcpStream>) -> Self {
        let member = |stream| Member::reach(stream).expect("the name of whom it has reached");
        Self { members: streams.into_iter().map(member).collect() }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Each of them.
    #[must_use]
    pub fn members(&mut self) -> &mut [Member] {
        &mut self.members
    }

    /// How many have reached each server.
    #[must_use]
    pub fn spread(&self) -> BTreeMap<String, usize> {
        let mut spread = BTreeMap::new();
        for member in &self.members {
            *spread.entry(member.at.clone()).or_default() += 1;
        }
        spread
    }

    /// How many have reached this server.
    #[must_use]
    pub fn at(&self, name: &str) -> usize {
        self.members.iter().filter(|member| member.at == name).count()
    }

    /// Removes and returns those that have reached this server.
    #[must_use]
    pub fn split_off(&mut self, name: &str) -> Self {
        let (of_it, others) = std::mem::take(&mut self.members).into_iter().partition(|member| member.at == name);
        self.members = others;
        Self { members: of_it }
    }

    /// Adds others.
    pub fn join(&mut self, other: Self) {
        self.members.extend(other.members);
    }

    /// Each says something and hears it back, all at once; how many do.
    pub fn answering(&mut self) -> usize {
        self.echo().into_iter().filter(|result| result.is_ok()).count()
    }

    /// [`Crowd::answering`] must be all.
    ///
    /// # Panics
    /// If it isn't.
    #[track_caller]
    pub fn assert_all_answer(&mut self) {
        let results = self.echo();
        let failed: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        assert!(failed.is_empty(), "{} of {} don't answer: {}", failed.len(), results.len(), failed[0]);
    }

    fn echo(&mut self) -> Vec<io::Result<()>> {
        let text = |number: usize| format!("are you there, {number}?").into_bytes();
        let members = || 0..self.members.len();
        let said: Vec<_> = members().map(|n| speech::say(&mut self.members[n].stream, &text(n))).collect();
        let heard = |(n, said): (usize, io::Result<()>)| {
            let member = &mut self.members[n];
            let heard = said.and_then(|()| speech::hear(&mut member.stream, &text(n)));
            if let (Err(error), Condition::Open) = (&heard, member.condition) {
                member.condition = Condition::of(error);
            }
            heard
        };
        said.into_iter().enumerate().map(heard).collect()
    }

    /// Sends one small segment on each, without an answer: the other end's kernel delays its acknowledgment.
    ///
    /// # Panics
    /// If a connection has failed already.
    #[track_caller]
    pub fn hush(&mut self) {
        for member in &mut self.members {
            speech::hush(&mut member.stream).expect("a connection that stands");
        }
    }

    /// What has become of them, by `poll`: nothing is sent, nothing is read.
    pub fn conditions(&mut self) -> BTreeMap<Condition, usize> {
        let mut conditions = BTreeMap::new();
        for member in &mut self.members {
            *conditions.entry(member.condition()).or_default() += 1;
        }
        conditions
    }

    /// Whether all of them are in this condition.
    pub fn all_are(&mut self, condition: Condition) -> bool {
        self.members.iter_mut().all(|member| member.condition() == condition)
    }

    /// Waits until all of them are in this condition.
    ///
    /// # Panics
    /// If they don't come to it in [`wait::PATIENCE`].
    #[track_caller]
    pub fn wait_all(&mut self, condition: Condition) {
        let what = format!("{} connections to be {condition:?}", self.len());
        let mut seen = BTreeMap::new();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait::until_true(&what, || {
                seen = self.conditions();
                seen.keys().all(|is| *is == condition)
            });
        }));
        assert!(outcome.is_ok(), "{what}, but they are {seen:?}");
    }

    /// The bare connections.
    #[must_use]
    pub fn into_streams(self) -> Vec<TcpStream> {
        self.members.into_iter().map(|member| member.stream).collect()
    }

    /// Ends each in good order: it closes, and the other end has closed as well.
    ///
    /// # Panics
    /// If one of them can't.
    #[track_caller]
    pub fn leave(self) {
        for mut member in self.members {
            speech::leave(&mut member.stream).expect("the end of a connection that stands");
        }
    }

    /// Turns each into a busy one.
    #[must_use]
    pub fn transfer(self, pace: Pace) -> Vec<Transfer> {
        self.members.into_iter().map(|member| Transfer::start(member.stream, pace)).collect()
    }
}

impl Member {
    fn reach(mut stream: TcpStream) -> io::Result<Self> {
        let at = speech::ask_who(&mut stream)?;
        Ok(Self { stream, at, condition: Condition::Open })
    }

    /// What has become of it, by `poll`.
    ///
    /// # Panics
    /// If that fails, which it can't.
    pub fn condition(&mut self) -> Condition {
        // The socket reports the error only once, so it is kept.
        if matches!(self.condition, Condition::Open | Condition::Ended) {
            let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::ZERO).expect("poll");
            let seen = fds[0].revents().expect("known flags");
            if seen.contains(PollFlags::POLLERR)
                && let Some(error) = self.stream.take_error().expect("SO_ERROR")
            {
                self.condition = Condition::of(&error);
            } else if seen.contains(PollFlags::POLLIN) && matches!(self.stream.peek(&mut [0]), Ok(0)) {
                self.condition = Condition::Ended;
            }
        }
        self.condition
    }

    /// Its own end.
    ///
    /// # Panics
    /// If the socket has none, which it must.
    #[must_use]
    pub fn local(&self) -> SocketAddrV4 {
        match self.stream.local_addr().expect("a connected socket has an address") {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(address) => panic!("{address} in a mesh of IPv4"),
        }
    }
}
