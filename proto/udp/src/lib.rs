//! The UDP socket of the tunnel and of a relay (udp(7)): both IP families, and many datagrams a call by `UDP_SEGMENT` and
//! `UDP_GRO`.
#![allow(unsafe_code, reason = "sendmsg and recvmmsg with control messages and without an allocation a call")]

use std::{
    io, mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        raw::{c_int, c_uint},
    },
    ptr,
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrStorage, bind, connect, getsockname,
        setsockopt, socket, sockopt,
    },
};

mod control;
mod lanes;
mod name;

pub use self::lanes::{Lanes, MAX_LANES};
use self::{
    control::{Control, Source, notes},
    name::Name,
};

/// The requested size of the socket's buffers in bytes. A full buffer drops whole GRO batches, with up to 64 TCP
/// segments each.
const SOCKET_BUFFER: usize = 8 << 20;

/// The same for a socket that has one remote address only.
const OWN_BUFFER: usize = 1 << 20;

/// How many messages one [`Udp::receive`] takes. More than four were slower when measured (they don't fit the cache).
const BATCH: usize = 4;

/// A socket. Non-blocking, not connected.
#[derive(Debug)]
pub struct Udp {
    socket: OwnedFd,
    /// Whether it is an IPv6 socket, which uses mapped addresses for IPv4 (RFC 4291 §2.5.5.2).
    dual: bool,
}

impl Udp {
    /// Binds a port of all addresses of the machine, 0 for any port. It is IPv4 only if the machine has no IPv6.
    ///
    /// # Errors
    /// `AddrInUse`, or another error of bind(2).
    pub fn bind(port: u16) -> io::Result<Self> {
        match Self::bind_dual((Ipv6Addr::UNSPECIFIED, port), Sharing::Alone) {
            Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL | Errno::EPROTONOSUPPORT) => {
                Ok(Self::bind_v4((Ipv4Addr::UNSPECIFIED, port), Sharing::Alone)?)
            }
            other => Ok(other?),
        }
    }

    /// Binds `address` beside other sockets of this user that do the same (`SO_REUSEPORT`, socket(7)): the kernel
    /// assigns each remote address to one of them. `[::]` includes IPv4, and is `0.0.0.0` on a machine without IPv6.
    ///
    /// # Errors
    /// The error of bind(2).
    pub fn bind_shared(address: SocketAddr) -> io::Result<Self> {
        let (ip, port) = (address.ip(), address.port());
        let bound = match ip {
            IpAddr::V4(ip) => return Ok(Self::bind_v4((ip, port), Sharing::Port)?),
            IpAddr::V6(ip) => Self::bind_dual((ip, port), Sharing::Port),
        };
        match bound {
            Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL | Errno::EPROTONOSUPPORT) if ip.is_unspecified() => {
                Ok(Self::bind_v4((Ipv4Addr::UNSPECIFIED, port), Sharing::Port)?)
            }
            other => Ok(other?),
        }
    }

    /// Binds `local` beside the sockets of [`Udp::bind_shared`] for datagrams of `remote` alone (`connect`, udp(7)), with a
    /// small receive buffer of its own. What others send to `local` in between, before it is connected, comes to it too.
    ///
    /// # Errors
    /// The error of bind(2) or connect(2), or `InvalidInput` for two families.
    pub fn bind_for(local: SocketAddr, remote: SocketAddr) -> io::Result<Self> {
        let this = match (local, remote) {
            (SocketAddr::V4(local), SocketAddr::V4(remote)) => {
                let this = Self::bind_v4((*local.ip(), local.port()), Sharing::Port)?;
                connect(this.socket.as_raw_fd(), &SockaddrIn::from(remote))?;
                this
            }
            (SocketAddr::V6(local), SocketAddr::V6(remote)) => {
                let this = Self::bind_dual((*local.ip(), local.port()), Sharing::Port)?;
                connect(this.socket.as_raw_fd(), &SockaddrIn6::from(remote))?;
                this
            }
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        set_receive_buffer(&this.socket, OWN_BUFFER)?;
        Ok(this)
    }

    fn bind_dual((ip, port): (Ipv6Addr, u16), sharing: Sharing) -> nix::Result<Self> {
        let socket = open(AddressFamily::Inet6, sharing)?;
        setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
        // Outer packets may be fragmented: a path with a smaller MTU is then slow but works.
        set(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)?;
        set(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)?;
        // This option also reports IPv4 destinations, as mapped addresses.
        set(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        bind(socket.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(ip, port, 0, 0)))?;
        Ok(Self { socket, dual: true })
    }

    fn bind_v4((ip, port): (Ipv4Addr, u16), sharing: Sharing) -> nix::Result<Self> {
        let socket = open(AddressFamily::Inet, sharing)?;
        set(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)?;
        set(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(ip, port)))?;
        Ok(Self { socket, dual: false })
    }

    /// The bound port.
    ///
    /// # Errors
    /// The error of getsockname(2).
    pub fn port(&self) -> io::Result<u16> {
        let name: SockaddrStorage = getsockname(self.socket.as_raw_fd())?;
        let v6 = name.as_sockaddr_in6().map(SockaddrIn6::port);
        v6.or_else(|| name.as_sockaddr_in().map(SockaddrIn::port)).ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// Enables or disables batches of received datagrams (`UDP_GRO`, Linux 5.0).
    ///
    /// # Errors
    /// `ENOPROTOOPT` if the kernel is too old.
    pub fn set_gro(&self, on: bool) -> io::Result<()> {
        Ok(set(&self.socket, libc::SOL_UDP, libc::UDP_GRO, on.into())?)
    }

    /// Sends one datagram, or with `segment` several of that length (`UDP_SEGMENT`). They leave from `from` if the
    /// machine still has that address, else from an address that the kernel chooses.
    ///
    /// # Errors
    /// The error of sendmsg(2). With `segment`: `EIO` if the route can't do it, `EINVAL` if the pieces don't fit its
    /// MTU.
    pub fn send(&self, from: Option<IpAddr>, to: SocketAddr, bytes: &[u8], segment: Option<u16>) -> io::Result<()> {
        let sent = self.send_from(from, to, bytes, segment);
        match (&sent, from) {
            (Err(error), Some(_)) if is_not_ours(error) => self.send_from(None, to, bytes, segment),
            _ => sent,
        }
    }

    /// Sends one datagram that neither this machine nor a router may fragment, whatever ICMP has said of the path so far
    /// (`IP_PMTUDISC_PROBE`, ip(7)). The option is the socket's, and is set for this one call.
    ///
    /// # Errors
    /// The error of sendmsg(2): `EMSGSIZE` if the datagram is longer than the MTU of the interface.
    pub fn send_whole(&self, from: Option<IpAddr>, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let (level, option, whole, usual) = match to {
            SocketAddr::V4(_) => {
                (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE, libc::IP_PMTUDISC_DONT)
            }
            SocketAddr::V6(_) => {
                (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE, libc::IPV6_PMTUDISC_DONT)
            }
        };
        set(&self.socket, level, option, whole)?;
        let sent = self.send(from, to, datagram, None);
        set(&self.socket, level, option, usual)?;
        sent
    }

    fn send_from(&self, from: Option<IpAddr>, to: SocketAddr, bytes: &[u8], segment: Option<u16>) -> io::Result<()> {
        let mut name = Name::from(if self.dual { mapped(to) } else { to });
        let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let mut control = Control::default();
        // SAFETY: a `msghdr` of zeros is a valid one.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_name = (&raw mut name.storage).cast();
        message.msg_namelen = name.len;
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        let length = control.fill(segment, from.and_then(|from| Source::new(self.dual, from, to)));
        if length > 0 {
            message.msg_control = (&raw mut control).cast();
            message.msg_controllen = length as _;
        }
        loop {
            // SAFETY: everything that `message` points to outlives the call, and sendmsg writes to none of it.
            match unsafe { libc::sendmsg(self.socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) } {
                sent if sent >= 0 => return Ok(()),
                _ => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        }
    }

    /// Receives at most four messages, which [`Inbox::messages`] then returns.
    ///
    /// # Errors
    /// The error of recvmmsg(2), except for `EAGAIN`.
    pub fn receive(&self, inbox: &mut Inbox) -> io::Result<()> {
        inbox.filled = 0;
        let mut names = [Name::default(); BATCH];
        let mut controls = [Control::default(); BATCH];
        let mut parts = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
        // SAFETY: an `mmsghdr` of zeros is a valid one.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        for (i, message) in messages.iter_mut().enumerate() {
            let buffer = &mut inbox.slots[i].buffer;
            parts[i] = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            message.msg_hdr.msg_name = (&raw mut names[i].storage).cast();
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            message.msg_hdr.msg_iov = &raw mut parts[i];
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = (&raw mut controls[i]).cast();
            message.msg_hdr.msg_controllen = size_of::<Control>() as _;
        }
        // SAFETY: every header points to separate buffers that outlive the call, with their true lengths.
        let count = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                messages.as_mut_ptr(),
                BATCH as c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        if count < 0 {
            return match io::Error::last_os_error() {
                e if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(()),
                error => Err(error),
            };
        }
        for (i, message) in messages.iter().enumerate().take(count as usize) {
            let slot = &mut inbox.slots[i];
            slot.len = (message.msg_len as usize).min(slot.buffer.len());
            slot.truncated = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            slot.from = names[i].address();
            let notes = notes(&message.msg_hdr);
            slot.stride = notes.stride.filter(|stride| *stride > 0).unwrap_or(slot.len);
            slot.local = notes.local;
            if let Some(overflow) = notes.overflow {
                inbox.overflow = overflow;
            }
        }
        inbox.filled = count as usize;
        Ok(())
    }
}

/// Bounds the bytes that a TCP socket takes in before it has sent what it has (`TCP_NOTSENT_LOWAT`, tcp(7)): what is more
/// waits where it can still be dropped. (It is here because system calls have few places.)
///
/// # Errors
/// The error of setsockopt(2).
pub fn limit_unsent(connection: impl AsFd, bytes: u32) -> io::Result<()> {
    let bytes = c_int::try_from(bytes).unwrap_or(c_int::MAX);
    Ok(set(&connection, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, bytes)?)
}

impl AsFd for Udp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The buffers of [`Udp::receive`].
#[derive(Debug)]
pub struct Inbox {
    slots: [Slot; BATCH],
    filled: usize,
    overflow: u32,
}

#[derive(Debug)]
struct Slot {
    buffer: Box<[u8]>,
    len: usize,
    stride: usize,
    truncated: bool,
    from: Option<SocketAddr>,
    local: Option<IpAddr>,
}

/// Datagrams of one sender that arrived together.
#[derive(Debug)]
pub struct Message<'a> {
    /// The sender; never an IPv4-mapped address.
    pub from: SocketAddr,
    /// The machine's address that they were sent to; never a mapped one.
    pub local: Option<IpAddr>,
    /// The datagrams, one after another.
    pub datagrams: &'a mut [u8],
    /// The length of each but the last, which may be shorter. It is zero only if all are empty.
    pub stride: usize,
    /// Whether the buffer was too short, so that the end is missing.
    pub truncated: bool,
}

impl Inbox {
    /// Buffers of `length` bytes each.
    pub fn new(length: usize) -> Self {
        let slot =
            |_| Slot { buffer: vec![0; length].into(), len: 0, stride: 0, truncated: false, from: None, local: None };
        Self { slots: [0; BATCH].map(slot), filled: 0, overflow: 0 }
    }

    /// Whether the last receive filled all buffers, so that there may be more.
    pub fn is_full(&self) -> bool {
        self.filled == BATCH
    }

    /// The messages of the last receive.
    pub fn messages(&mut self) -> impl Iterator<Item = Message<'_>> {
        self.slots.iter_mut().take(self.filled).filter_map(|slot| {
            Some(Message {
                from: slot.from?,
                local: slot.local,
                datagrams: slot.buffer.get_mut(..slot.len)?,
                stride: slot.stride,
                truncated: slot.truncated,
            })
        })
    }

    /// How many messages found the socket's buffer full since it was opened (`SO_RXQ_OVFL`), modulo 2³². A batch counts
    /// as one.
    pub fn overflow(&self) -> u32 {
        self.overflow
    }
}

/// Who else may have the port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    Port,
}

/// A socket with the options of both families.
fn open(family: AddressFamily, sharing: Sharing) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Datagram, flags, None)?;
    if sharing == Sharing::Port {
        setsockopt(&socket, sockopt::ReusePort, &true)?;
    }
    set_receive_buffer(&socket, SOCKET_BUFFER)?;
    setsockopt(&socket, sockopt::SndBufForce, &SOCKET_BUFFER)
        .or_else(|_| setsockopt(&socket, sockopt::SndBuf, &SOCKET_BUFFER))?;
    set(&socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
    Ok(socket)
}

/// `net.core.rmem_max` limits this without CAP_NET_ADMIN, as `wmem_max` does the other one.
fn set_receive_buffer(socket: &OwnedFd, bytes: usize) -> nix::Result<()> {
    setsockopt(socket, sockopt::RcvBufForce, &bytes).or_else(|_| setsockopt(socket, sockopt::RcvBuf, &bytes))
}

fn set(socket: &impl AsFd, level: c_int, option: c_int, value: c_int) -> nix::Result<()> {
    let length = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the option's value is an int, which outlives the call.
    let result =
        unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, (&raw const value).cast(), length) };
    Errno::result(result).map(drop)
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
        SocketAddr::V6(_) => address,
    }
}

/// Whether a datagram may have been refused because the machine no longer has the source address. (`EINVAL` can have
/// other reasons, by which a second attempt fails as well.)
fn is_not_ours(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EADDRNOTAVAIL | libc::ENODEV | libc::ENETUNREACH))
}

#[cfg(test)]
mod tests;
