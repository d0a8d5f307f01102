//! What comes from a UDP socket: counts, and failures that are outlived.

use std::io;

use mesh_udp::{Inbox, Message, Udp};

use super::{
    counters::{Counter, Counters},
    report::Traffic,
};

/// After this many failures of the socket in a row it is considered broken.
const FAILURES: u32 = 1000;

/// The state of a socket's receiving side.
#[derive(Debug, Default)]
pub(super) struct Reception {
    /// The socket's count of messages that it had no room for, at the last look.
    overflow: u32,
    /// Failures in a row.
    failures: u32,
}

impl Reception {
    /// Receives into `inbox`, and counts. After a failure there are no messages in it.
    ///
    /// # Errors
    /// If the socket is considered broken.
    pub(super) fn receive(
        &mut self,
        udp: &Udp,
        inbox: &mut Inbox,
        counters: &mut Counters,
        traffic: &mut Traffic,
    ) -> io::Result<()> {
        let result = udp.receive(inbox);
        let lost = inbox.overflow().wrapping_sub(self.overflow);
        self.overflow = inbox.overflow();
        counters.add(Counter::UdpReceiveFull, lost.into());
        match result {
            Ok(()) => {
                self.failures = 0;
                inbox.messages().for_each(|message| traffic.udp_receives.add(message.datagrams.len()));
                Ok(())
            }
            Err(error) => {
                counters.add(Counter::UdpReceiveFailed, 1);
                self.failures += 1;
                if self.failures < FAILURES { Ok(()) } else { Err(error) }
            }
        }
    }
}

/// Whether a message is whole and not empty. Others are counted.
pub(super) fn is_sound(message: &Message<'_>, counters: &mut Counters) -> bool {
    let flaw = if message.truncated {
        Counter::UdpTruncated
    } else if message.datagrams.is_empty() {
        Counter::UdpEmpty
    } else {
        return true;
    };
    counters.add(flaw, 1);
    false
}
