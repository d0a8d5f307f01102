//! Sends batches of datagrams by `UDP_SEGMENT`, or singly if the kernel refuses that.

use std::{io, net::SocketAddr};

use super::counters::{Counter, Counters};

/// The IP families with a route that can't do it (an `EIO`: IPsec, or a device without checksum offload before Linux
/// 6.11). Routes aren't distinguished: a machine seldom has two uplinks, and only speed is lost.
#[derive(Debug, Default)]
pub(super) struct Gso {
    v4_off: bool,
    v6_off: bool,
}

impl Gso {
    /// Forgets what was learned: the operator has switched it on again.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Sends datagrams of `stride` bytes, in one call if that works, else singly. `raw` sends: its arguments are the
    /// destination, the bytes, and the length of the pieces.
    pub(super) fn send(
        &mut self,
        to: SocketAddr,
        batch: &[u8],
        stride: usize,
        counters: &mut Counters,
        mut raw: impl FnMut(SocketAddr, &[u8], Option<u16>) -> io::Result<()>,
    ) {
        let off = if to.is_ipv4() { &mut self.v4_off } else { &mut self.v6_off };
        if batch.len() > stride {
            match u16::try_from(stride) {
                Ok(_) if *off => counters.add(Counter::UdpGsoOff, 1),
                Ok(segment) => match raw(to, batch, Some(segment)) {
                    Ok(()) => return,
                    Err(error) => match error.raw_os_error() {
                        Some(libc::EIO) => {
                            *off = true;
                            counters.add(Counter::UdpGsoUnsupported, 1);
                            let family = if to.is_ipv4() { "IPv4" } else { "IPv6" };
                            tracing::warn!(
                                "the route to {to} can't send batches of datagrams (UDP_SEGMENT): traffic over {family} \
                                 will be several times slower"
                            );
                        }
                        // EINVAL is ambiguous: the pieces may be too long for this route. The next batch may go to
                        // another runner and is tried.
                        Some(libc::EINVAL | libc::EMSGSIZE) => counters.add(Counter::UdpGsoRefused, 1),
                        _ => {
                            let datagrams = batch.len().div_ceil(stride.max(1)) as u64;
                            return counters.add(reason(&error), datagrams);
                        }
                    },
                },
                Err(_) => counters.add(Counter::UdpGsoRefused, 1),
            }
        }
        for datagram in batch.chunks(stride.max(1)) {
            if let Err(error) = raw(to, datagram, None) {
                counters.add(reason(&error), 1);
            }
        }
    }
}

fn reason(error: &io::Error) -> Counter {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => Counter::UdpSendFull,
        _ => Counter::UdpSendFailed,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const BATCH: [u8; 250] = [7; 250];

    /// A kernel that answers batches with `batches` and single datagrams with `singles`, and records them.
    struct Kernel {
        batches: Option<i32>,
        singles: Option<i32>,
        given: Vec<(usize, Option<u16>)>,
    }

    impl Kernel {
        fn new(batches: Option<i32>, singles: Option<i32>) -> Self {
            Self { batches, singles, given: Vec::new() }
        }

        fn send(&mut self, gso: &mut Gso, counters: &mut Counters, to: impl Into<std::net::IpAddr>) {
            self.given.clear();
            gso.send((to, 1).into(), &BATCH, 100, counters, |_, bytes, segment| {
                self.given.push((bytes.len(), segment));
                let answer = if segment.is_some() { self.batches } else { self.singles };
                answer.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
            });
        }
    }

    const SINGLY: [(usize, Option<u16>); 3] = [(100, None), (100, None), (50, None)];

    #[test]
    fn a_batch_is_one_call() {
        let (mut gso, mut counters, mut kernel) = (Gso::default(), Counters::default(), Kernel::new(None, None));
        kernel.send(&mut gso, &mut counters, Ipv4Addr::LOCALHOST);
        assert_eq!(kernel.given, [(250, Some(100))]);
        assert!(counters.list().iter().all(|(_, n)| *n == 0));
    }

    #[test]
    fn a_route_without_offload_is_tried_once_a_family_and_nothing_is_lost() {
        let (mut gso, mut counters) = (Gso::default(), Counters::default());
        let mut kernel = Kernel::new(Some(libc::EIO), None);
        kernel.send(&mut gso, &mut counters, Ipv4Addr::LOCALHOST);
        assert_eq!((kernel.given[0], &kernel.given[1..]), ((250, Some(100)), &SINGLY[..]));
        kernel.send(&mut gso, &mut counters, Ipv4Addr::LOCALHOST);
        assert_eq!(kernel.given, SINGLY, "not tried again");
        kernel.send(&mut gso, &mut counters, Ipv6Addr::LOCALHOST);
        assert_eq!(kernel.given.len(), 4, "the other family is tried by itself");
        assert_eq!((counters.get(Counter::UdpGsoUnsupported), counters.get(Counter::UdpGsoOff)), (2, 1));
        gso.reset();
        kernel.send(&mut gso, &mut counters, Ipv4Addr::LOCALHOST);
        assert_eq!(kernel.given.len(), 4, "switched on anew");
    }

    #[test]
    fn a_refused_batch_is_sent_singly_and_the_next_is_tried() {
        for errno in [libc::EINVAL, libc::EMSGSIZE] {
            let (mut gso, mut counters) = (Gso::default(), Counters::default());
            let mut kernel = Kernel::new(Some(errno), None);
            for tries in 1..=3 {
                kernel.send(&mut gso, &mut counters, Ipv4Addr::LOCALHOST);
                assert_eq!((kernel.given[0], &kernel.given[1..]), ((250, Some(100)), &SINGLY[..]));
                assert_eq!(counters.get(Counter::UdpGsoRefused), tries);
            }
        }
    }

    #[test]
    fn what_is_lost_is_counted_by_datagram_and_reason() {
        for (errno, counter) in [
            (libc::EAGAIN, Counter::UdpSendFull),
            (libc::ENOBUFS, Counter::UdpSendFull),
            (libc::EPERM, Counter::UdpSendFailed),
            (libc::ENETUNREACH, Counter::UdpSendFailed),
        ] {
            let (mut gso, mut counters) = (Gso::default(), Counters::default());
            let mut kernel = Kernel::new(Some(errno), Some(errno));
            kernel.send(&mut gso, &mut counters, Ipv4Addr::LOCALHOST);
            assert_eq!(
                (kernel.given.len(), counters.get(counter)),
                (1, 3),
                "{errno}: a full buffer isn't tried harder"
            );
            Kernel::new(Some(libc::EINVAL), Some(errno)).send(&mut gso, &mut counters, Ipv4Addr::LOCALHOST);
            assert_eq!(counters.get(counter), 6);
        }
    }
}
