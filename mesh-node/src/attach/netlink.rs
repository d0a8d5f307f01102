//! A small blocking netlink client (rtnetlink(7)): one request, one answer. It works on the namespace of the thread
//! that opened it.

use std::{io, ops::ControlFlow};

use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
        NetlinkPayload,
    },
    packet_route::RouteNetlinkMessage,
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

/// What to do if the object exists.
#[derive(Debug, Clone, Copy)]
pub(super) enum Exists {
    /// Fail with `AlreadyExists`.
    Refuse,
    /// Replace it.
    Replace,
    /// Add the new one beside it.
    Repeat,
}

/// How often a dump is restarted because something changed meanwhile. Then the result has to do: a container that never
/// stops changing its network must not block the agent.
const DUMPS: usize = 4;

/// Whether a dump is consistent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dump {
    Whole,
    /// Something changed during the dump.
    Interrupted,
}

/// A netlink socket for one namespace's network.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the calling thread's namespace.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        // Then the kernel filters dumps by the request. Before Linux 4.20 it can't, and sends everything.
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Self { socket, sequence: 0 })
    }

    /// Makes an object.
    pub(super) fn make(&mut self, message: RouteNetlinkMessage, exists: Exists) -> io::Result<()> {
        let flags = match exists {
            Exists::Refuse => NLM_F_CREATE | NLM_F_EXCL,
            Exists::Replace => NLM_F_CREATE | NLM_F_REPLACE,
            Exists::Repeat => NLM_F_CREATE,
        };
        self.ask(message, NLM_F_ACK | flags, &mut |_| ControlFlow::Continue(())).map(drop)
    }

    /// Makes an object unless it exists. Returns whether it was made.
    pub(super) fn ensure(&mut self, message: RouteNetlinkMessage) -> io::Result<bool> {
        match self.make(message, Exists::Refuse) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Changes or deletes an object.
    pub(super) fn change(&mut self, message: RouteNetlinkMessage) -> io::Result<()> {
        self.ask(message, NLM_F_ACK, &mut |_| ControlFlow::Continue(())).map(drop)
    }

    /// Deletes an object. An object that is gone already is no error.
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

    /// Sends a request with one answer.
    pub(super) fn get(&mut self, message: RouteNetlinkMessage) -> io::Result<Option<RouteNetlinkMessage>> {
        let mut found = None;
        self.ask(message, NLM_F_ACK, &mut |answer| {
            found.get_or_insert(answer);
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Lists all objects of a kind. Each is passed to `each` as it arrives, and only what that keeps is kept: a
    /// namespace can hold more than fits into memory.
    pub(super) fn gather<T: Default>(
        &mut self,
        message: RouteNetlinkMessage,
        mut each: impl FnMut(&mut T, RouteNetlinkMessage) -> ControlFlow<()>,
    ) -> io::Result<T> {
        for _ in 1..DUMPS {
            let mut gathered = T::default();
            match self.ask(message.clone(), NLM_F_DUMP, &mut |answer| each(&mut gathered, answer))? {
                Dump::Whole => return Ok(gathered),
                // A dump may miss what changes meanwhile. The kernel reports that, and the dump is restarted.
                Dump::Interrupted => {}
            }
        }
        let mut gathered = T::default();
        self.ask(message, NLM_F_DUMP, &mut |answer| each(&mut gathered, answer))?;
        Ok(gathered)
    }

    fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        each: &mut dyn FnMut(RouteNetlinkMessage) -> ControlFlow<()>,
    ) -> io::Result<Dump> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;

        let mut dump = Dump::Whole;
        loop {
            let (bytes, from) = self.socket.recv_from_full()?;
            if from.port_number() != 0 {
                continue; // from a process, and not the kernel
            }
            let mut rest = &bytes[..];
            while let Some(length) = length(rest) {
                let (this, next) = rest.split_at_checked(length).ok_or(io::ErrorKind::InvalidData)?;
                rest = next.get(length.next_multiple_of(4) - length..).unwrap_or_default();
                let answer = match NetlinkMessage::<RouteNetlinkMessage>::deserialize(this) {
                    Ok(answer) => answer,
                    // A link, route or rule with an attribute that our decoder doesn't know: it isn't ours.
                    Err(error) => {
                        tracing::debug!(%error, "a netlink message was left out");
                        continue;
                    }
                };
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                if answer.header.flags & NLM_F_DUMP_INTR != 0 {
                    dump = Dump::Interrupted;
                }
                match answer.payload {
                    NetlinkPayload::InnerMessage(inner) => {
                        let enough = each(inner).is_break();
                        if enough {
                            // Closing the socket drops the rest of the answer.
                            *self = Self::open()?;
                            return Ok(Dump::Whole);
                        }
                    }
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(dump),
                    NetlinkPayload::Overrun(_) => return Err(io::ErrorKind::Interrupted.into()),
                    _ => {}
                }
            }
        }
    }
}

/// The length of the netlink message at the start of `bytes` (`struct nlmsghdr`), if there is one.
fn length(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    (length >= 16).then_some(length)
}
