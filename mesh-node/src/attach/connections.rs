//! Ends connections in a namespace (sock_diag(7), `SOCK_DESTROY`), for an instance that ends while its programs live
//! on. The engine has sent them a RST, but TCP ignores a RST that crosses an acknowledgment, and without `mesh0` there
//! is no second one.

use std::{io, net::Ipv4Addr};

use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};

/// From linux/sock_diag.h and linux/netlink.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;

/// The lengths of `nlmsghdr` and `inet_diag_sockid`, and the offset of the latter in `inet_diag_msg`.
const HEADER: usize = 16;
const ID: usize = 48;
const ID_AT: usize = 4;

/// All of include/net/tcp_states.h but CLOSE and LISTEN.
const STATES: u32 = !(1 << 7 | 1 << 10);

/// Destroys the TCP connections of the calling thread's namespace that have one of `addresses` at this end, including
/// IPv4 connections of IPv6 sockets. Returns how many there were.
///
/// # Errors
/// If they can't be listed, or the kernel has no `SOCK_DESTROY` (`CONFIG_INET_DIAG_DESTROY`).
pub(super) fn destroy(addresses: &[Ipv4Addr]) -> io::Result<usize> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    let mut destroyed = 0;
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        let mut ours = vec![];
        ask(&socket, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &request(family, &[0; ID]), |found| {
            if let Some(id) = found.get(ID_AT..ID_AT + ID)
                && local(family, id).is_some_and(|address| addresses.contains(&address))
            {
                ours.push(id.to_vec());
            }
        })?;
        for id in ours {
            match ask(&socket, SOCK_DESTROY, NLM_F_ACK, &request(family, &id), |_| {}) {
                Ok(()) => destroyed += 1,
                // It has ended by itself.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(destroyed)
}

/// `struct inet_diag_req_v2` (linux/inet_diag.h).
fn request(family: u8, id: &[u8]) -> Vec<u8> {
    let mut request = vec![family, libc::IPPROTO_TCP as u8, 0, 0];
    request.extend(STATES.to_ne_bytes());
    request.extend(id);
    request
}

/// The offset of the address at this end, after the two ports.
fn local(family: u8, id: &[u8]) -> Option<Ipv4Addr> {
    let address: [u8; 16] = *id.get(4..)?.first_chunk()?;
    if family == libc::AF_INET6 as u8 {
        return std::net::Ipv6Addr::from(address).to_ipv4_mapped();
    }
    address.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes))
}

/// Sends one request, and passes the answers to `each` until the kernel has finished.
fn ask(socket: &Socket, kind: u16, flags: u16, body: &[u8], mut answer: impl FnMut(&[u8])) -> io::Result<()> {
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    socket.send_to(&message, &SocketAddr::new(0, 0), 0)?;
    loop {
        let (bytes, from) = socket.recv_from_full()?;
        if from.port_number() != 0 {
            continue; // from a process, and not the kernel
        }
        let mut rest = &bytes[..];
        while let Some((length, kind)) = header(rest) {
            let (this, next) = rest.split_at_checked(length).ok_or(io::ErrorKind::InvalidData)?;
            rest = next.get(length.next_multiple_of(4) - length..).unwrap_or_default();
            let body = &this[HEADER..];
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let code = i32::from_ne_bytes(*body.first_chunk().ok_or(io::ErrorKind::InvalidData)?);
                    return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) };
                }
                _ => answer(body),
            }
        }
    }
}

/// The length and the type of the message at the start of `bytes`, if there is one.
fn header(bytes: &[u8]) -> Option<(usize, u16)> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    (length >= HEADER && bytes.len() >= HEADER).then_some((length, kind))
}
