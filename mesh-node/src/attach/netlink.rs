//! A small blocking netlink client (rtnetlink(7)): one request, one answer. It belongs to the namespace of the thread
//! that opened it.

use std::io;

use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
        NetlinkPayload,
    },
    packet_route::RouteNetlinkMessage,
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

/// What to do where there is such a thing already.
#[derive(Debug, Clone, Copy)]
pub(super) enum Exists {
    /// Fail with `AlreadyExists`.
    Refuse,
    /// Put the new one in its place.
    Replace,
}

/// A conversation with the kernel about one namespace's network.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens one in the calling thread's namespace.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Makes something.
    pub(super) fn make(&mut self, message: RouteNetlinkMessage, exists: Exists) -> io::Result<()> {
        let flags = match exists {
            Exists::Refuse => NLM_F_CREATE | NLM_F_EXCL,
            Exists::Replace => NLM_F_CREATE | NLM_F_REPLACE,
        };
        self.ask(message, NLM_F_ACK | flags).map(drop)
    }

    /// Changes or deletes something.
    pub(super) fn change(&mut self, message: RouteNetlinkMessage) -> io::Result<()> {
        self.ask(message, NLM_F_ACK).map(drop)
    }

    /// Deletes something. To find it gone already is as good.
    pub(super) fn delete(&mut self, message: RouteNetlinkMessage) -> io::Result<()> {
        match self.change(message) {
            // ENODEV: links; ESRCH: routes; EADDRNOTAVAIL: addresses; ENOENT: rules.
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::ENODEV | libc::ESRCH | libc::EADDRNOTAVAIL | libc::ENOENT)
                ) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// Asks for one thing.
    pub(super) fn get(&mut self, message: RouteNetlinkMessage) -> io::Result<Option<RouteNetlinkMessage>> {
        Ok(self.ask(message, NLM_F_ACK)?.into_iter().next())
    }

    /// Asks for all of a kind.
    pub(super) fn dump(&mut self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        // What changes in the midst of a dump may be left out of it: the kernel says so, and is asked anew.
        for _ in 0..16 {
            match self.ask(message.clone(), NLM_F_DUMP) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut octets = vec![0; request.buffer_len()];
        request.serialize(&mut octets);
        self.socket.send_to(&octets, &SocketAddr::new(0, 0), 0)?;

        let (mut answers, mut interrupted) = (Vec::new(), false);
        loop {
            let (octets, from) = self.socket.recv_from_full()?;
            if from.port_number() != 0 {
                continue; // from a process, and not the kernel
            }
            let mut rest = &octets[..];
            while let Some(length) = length(rest) {
                let (this, next) = rest.split_at_checked(length).ok_or(io::ErrorKind::InvalidData)?;
                rest = next.get(length.next_multiple_of(4) - length..).unwrap_or_default();
                let answer = match NetlinkMessage::<RouteNetlinkMessage>::deserialize(this) {
                    Ok(answer) => answer,
                    // A link, route or rule with something newer than our decoder: none of ours.
                    Err(error) => {
                        tracing::debug!(%error, "a netlink message was left out");
                        continue;
                    }
                };
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) if interrupted => {
                        return Err(io::ErrorKind::Interrupted.into());
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Overrun(_) => return Err(io::ErrorKind::Interrupted.into()),
                    _ => {}
                }
            }
        }
    }
}

/// The length of the netlink message at the start of `octets` (`struct nlmsghdr`), if there is one.
fn length(octets: &[u8]) -> Option<usize> {
    let length = u32::from_ne_bytes(*octets.first_chunk()?) as usize;
    (length >= 16).then_some(length)
}
