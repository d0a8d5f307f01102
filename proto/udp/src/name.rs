//! Addresses of sockets in the kernel's format (ip(7), ipv6(7)).

use std::{
    mem,
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::raw::c_int,
};

use nix::sys::socket::{SockaddrIn, SockaddrIn6};

/// The kernel's format of an address.
#[derive(Clone, Copy)]
pub(crate) struct Name {
    pub(crate) storage: libc::sockaddr_in6,
    pub(crate) len: libc::socklen_t,
}

impl Default for Name {
    fn default() -> Self {
        // SAFETY: a `sockaddr_in6` of zeros is a valid one (of family AF_UNSPEC).
        Self { storage: unsafe { mem::zeroed() }, len: 0 }
    }
}

impl From<SocketAddr> for Name {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => {
                let mut name = Self { len: size_of::<libc::sockaddr_in>() as libc::socklen_t, ..Self::default() };
                let v4: libc::sockaddr_in = *SockaddrIn::from(v4).as_ref();
                // SAFETY: a `sockaddr_in` is smaller than a `sockaddr_in6`, and aligned no more strictly.
                unsafe { (&raw mut name.storage).cast::<libc::sockaddr_in>().write(v4) };
                name
            }
            SocketAddr::V6(v6) => {
                Self { storage: *SockaddrIn6::from(v6).as_ref(), len: size_of::<libc::sockaddr_in6>() as _ }
            }
        }
    }
}

impl Name {
    /// The canonical address. `None` if it is neither IPv4 nor IPv6.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match c_int::from(self.storage.sin6_family) {
            libc::AF_INET6 => {
                let v6 = SocketAddrV6::from(SockaddrIn6::from(self.storage));
                Some(match v6.ip().to_canonical() {
                    IpAddr::V4(v4) => (v4, v6.port()).into(),
                    IpAddr::V6(_) => v6.into(),
                })
            }
            libc::AF_INET => {
                // SAFETY: the kernel has written a `sockaddr_in` here, by its family, which is smaller than the buffer.
                let v4 = unsafe { (&raw const self.storage).cast::<libc::sockaddr_in>().read() };
                Some(SocketAddrV4::from(SockaddrIn::from(v4)).into())
            }
            _ => None,
        }
    }
}
