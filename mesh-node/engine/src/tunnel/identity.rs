//! This runner's side of all handshakes: what a message claims, before anything is known of its sender.

use std::{net::IpAddr, sync::Arc};

use boringtun::{
    noise::{
        Packet, Tunn, TunnResult, errors::WireGuardError, handshake::parse_handshake_anon, rate_limiter::RateLimiter,
    },
    x25519,
};
use mesh_proto::{PrivateKey, PublicKey};

use super::{CONTROL, TunnelIx, mac};
use crate::{Reason, limit::Mac};

/// A message that isn't data, with what it claims.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// A runner wants a session.
    Initiation(Mac),
    /// An answer to the initiation of this tunnel.
    Response { index: TunnelIx },
    /// A cookie for the initiation of this tunnel.
    Cookie { index: TunnelIx },
}

/// This runner's side of all tunnels.
pub(crate) struct Identity {
    pub(super) private: x25519::StaticSecret,
    public: x25519::PublicKey,
    /// Lets every message for this runner pass.
    pub(super) permissive: Arc<RateLimiter>,
    /// Lets only senders with a proven address pass, and makes the cookies for the proof.
    strict: RateLimiter,
}

impl Identity {
    pub(crate) fn new(key: &PrivateKey) -> Self {
        let private = x25519::StaticSecret::from(key.to_bytes());
        let public = x25519::PublicKey::from(&private);
        let permissive = Arc::new(RateLimiter::new(&public, u64::MAX));
        let strict = RateLimiter::new(&public, 0);
        Self { private, public, permissive, strict }
    }

    /// Parses a message that isn't data. It costs a hash.
    ///
    /// # Errors
    /// If it isn't for this runner.
    pub(crate) fn read(&self, datagram: &[u8]) -> Result<Handshake, Reason> {
        match self.permissive.verify_packet(None, datagram, &mut [0; CONTROL]) {
            Ok(Packet::HandshakeInit(_)) => mac(datagram).map(Handshake::Initiation).ok_or(Reason::NotWireGuard),
            Ok(Packet::HandshakeResponse(response)) => {
                Ok(Handshake::Response { index: TunnelIx(response.receiver_idx >> 8) })
            }
            Ok(Packet::PacketCookieReply(reply)) => Ok(Handshake::Cookie { index: TunnelIx(reply.receiver_idx >> 8) }),
            Err(TunnResult::Err(WireGuardError::InvalidMac)) => Err(Reason::BadMac),
            Ok(Packet::PacketData(_)) | Err(_) => Err(Reason::NotWireGuard),
        }
    }

    /// Checks that an initiation proves, by a cookie, that its sender is at `from`.
    ///
    /// # Errors
    /// If it doesn't: the length of the cookie message in `cookie`, which has to be sent to `from`.
    pub(crate) fn prove(&self, from: IpAddr, initiation: &[u8], cookie: &mut [u8; CONTROL]) -> Result<(), usize> {
        match self.strict.verify_packet(Some(from), initiation, cookie) {
            Ok(_) => Ok(()),
            Err(TunnResult::WriteToNetwork(reply)) => Err(reply.len()),
            Err(_) => Err(0),
        }
    }

    /// The key that an initiation claims, which the rest of the handshake proves. It costs a Diffie-Hellman.
    ///
    /// # Errors
    /// If the initiation is malformed.
    pub(crate) fn initiator(&self, initiation: &[u8]) -> Result<PublicKey, Reason> {
        let Ok(Packet::HandshakeInit(initiation)) = Tunn::parse_incoming_packet(initiation) else {
            return Err(Reason::NotWireGuard);
        };
        parse_handshake_anon(&self.private, &self.public, &initiation)
            .map(|half| PublicKey(half.peer_static_public))
            .map_err(|_| Reason::HandshakeRejected)
    }
}
