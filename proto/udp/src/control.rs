//! Control messages with datagrams (cmsg(3), ip(7), ipv6(7), udp(7)).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::raw::{c_int, c_uint},
};

/// The source address of a datagram in the kernel's format.
#[derive(Clone, Copy)]
pub(super) enum Source {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
}

impl Source {
    /// `None` if its family isn't the destination's.
    pub(super) fn new(dual: bool, from: IpAddr, to: SocketAddr) -> Option<Self> {
        match (from, to) {
            (IpAddr::V4(from), SocketAddr::V4(_)) if !dual => Some(Self::V4(libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) },
                ipi_addr: libc::in_addr { s_addr: 0 },
            })),
            (IpAddr::V4(from), SocketAddr::V4(_)) => Some(Self::v6(from.to_ipv6_mapped())),
            (IpAddr::V6(from), SocketAddr::V6(_)) => Some(Self::v6(from)),
            _ => None,
        }
    }

    const fn v6(from: Ipv6Addr) -> Self {
        Self::V6(libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: from.octets() }, ipi6_ifindex: 0 })
    }
}

/// Room for control messages: an int for each of `UDP_GRO` and `SO_RXQ_OVFL`, an `in6_pktinfo`, and one to spare.
#[derive(Default, Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control([u64; 14]);

impl Control {
    /// Writes the control messages of a datagram, and returns their length.
    pub(super) fn fill(&mut self, segment: Option<u16>, source: Option<Source>) -> usize {
        let mut length = 0;
        if let Some(segment) = segment {
            length = self.put(length, libc::SOL_UDP, libc::UDP_SEGMENT, segment);
        }
        match source {
            Some(Source::V4(source)) => self.put(length, libc::IPPROTO_IP, libc::IP_PKTINFO, source),
            Some(Source::V6(source)) => self.put(length, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, source),
            None => length,
        }
    }

    /// Writes one control message at `at`, and returns its end. Plain old data only.
    #[allow(clippy::unnecessary_cast, reason = "with musl, cmsg_len is a socklen_t")]
    fn put<T: Copy>(&mut self, at: usize, level: c_int, kind: c_int, value: T) -> usize {
        // SAFETY: CMSG_SPACE and CMSG_LEN only calculate.
        let (space, len) = unsafe {
            (libc::CMSG_SPACE(size_of::<T>() as c_uint) as usize, libc::CMSG_LEN(size_of::<T>() as c_uint) as usize)
        };
        assert!(at.is_multiple_of(align_of::<libc::cmsghdr>()) && at + space <= size_of::<Self>());
        // SAFETY: `at` is aligned for a `cmsghdr`, and the assertion above makes sure that there is room for it and its
        // data.
        unsafe {
            let header = (&raw mut self.0).cast::<u8>().add(at).cast::<libc::cmsghdr>();
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = len as _;
            libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
        }
        at + space
    }
}

/// The control messages of a received message.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) stride: Option<usize>,
    pub(super) overflow: Option<u32>,
    pub(super) local: Option<IpAddr>,
}

pub(super) fn notes(message: &libc::msghdr) -> Notes {
    let mut notes = Notes::default();
    // SAFETY: the kernel has filled `msg_control` and set `msg_controllen`; the macros stay within.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(control) = header.as_ref() {
            match (control.cmsg_level, control.cmsg_type) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    notes.stride = data::<c_int>(control).and_then(|stride| usize::try_from(stride).ok());
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                    notes.overflow = data::<c_int>(control).map(c_int::cast_unsigned);
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let local = data::<libc::in_pktinfo>(control).map(|info| info.ipi_spec_dst.s_addr.to_ne_bytes());
                    notes.local = local.map(|local| Ipv4Addr::from(local).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let local = data::<libc::in6_pktinfo>(control).map(|info| Ipv6Addr::from(info.ipi6_addr.s6_addr));
                    notes.local = local.map(|local| local.to_canonical());
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    notes
}

/// The content of a control message, if that is long enough. Plain old data only.
///
/// # Safety
/// `control` is the header of a whole control message.
#[allow(clippy::unnecessary_cast, reason = "with musl, cmsg_len is a socklen_t")]
unsafe fn data<T: Copy>(control: &libc::cmsghdr) -> Option<T> {
    // SAFETY: the data follows the header, as the caller guarantees, and the length was checked.
    unsafe {
        let long_enough = control.cmsg_len as usize >= libc::CMSG_LEN(size_of::<T>() as c_uint) as usize;
        long_enough.then(|| libc::CMSG_DATA(control).cast::<T>().read_unaligned())
    }
}
