//! What a relay has done, by numbers: nothing of it says for whom.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters that many threads add to.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Count,)*
        }

        /// The counters at one time.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub struct Counted {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// The numbers now.
            #[must_use]
            pub fn read(&self) -> Counted {
                Counted { $($name: self.$name.0.load(Relaxed),)* }
            }
        }

        impl Counted {
            /// Every counter with its name.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counters! {
    /// Datagrams handed on.
    datagrams,
    /// Bytes handed on, ChannelData headers included.
    bytes,
    /// Requests answered with what they asked for.
    granted,
    /// Requests with wrong, expired or revoked credentials.
    denied,
    /// Requests refused for another reason.
    refused,
    /// First requests answered with a nonce.
    challenged,
    /// Clients that got a receive buffer of their own, because others have filled the shared one.
    own_buffers,
    /// Messages that found a thread's shared receive buffer full. A batch counts as one.
    dropped_overflow,
    /// Requests of addresses that have proved nothing: too short for the answer.
    dropped_short,
    /// Requests over the limit of their network or address.
    dropped_limited,
    /// Messages that are no TURN, or broken.
    dropped_malformed,
    /// Data from who has no allocation, or by a channel that isn't bound.
    dropped_unbound,
    /// Data to a client that is gone or permits none.
    dropped_unpermitted,
    /// Data over the sender's share while the relay was busy.
    dropped_share,
    /// Data to a client by TCP or TLS that doesn't take it fast enough.
    dropped_stream_full,
    /// Data that the machine's send buffers had no room for.
    dropped_send,
}

/// One counter.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds a number.
    pub fn add(&self, number: usize) {
        self.0.fetch_add(number as u64, Relaxed);
    }
}
