//! Nonces that need no memory: their time and who they are for, sealed with a key that only this process has.

use std::net::SocketAddr;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::{limits::NONCE, time::Now};

/// The length of a nonce in bytes, a multiple of four so that it has no padding.
pub(crate) const LENGTH: usize = 16;

/// Makes and recognises nonces.
#[derive(Clone)]
pub(crate) struct Nonces(Hmac<Sha256>);

/// What a nonce proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Who sends it has received it at its address, within the last ten minutes.
    Fresh,
    /// Nothing: too old, another's, from before a restart, or invented.
    Stale,
}

impl Nonces {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(Hmac::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length")))
    }

    /// The nonce for an address from now on.
    pub(crate) fn of(&self, remote: SocketAddr, now: Now) -> String {
        let seconds = now.seconds();
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&seconds.to_be_bytes());
        bytes[4..].copy_from_slice(&self.mac(remote, seconds).finalize().into_bytes()[..8]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub(crate) fn check(&self, nonce: &str, remote: SocketAddr, now: Now) -> Freshness {
        let mut bytes = [0; 12];
        if nonce.len() != LENGTH || URL_SAFE_NO_PAD.decode_slice(nonce, &mut bytes).is_err() {
            return Freshness::Stale;
        }
        let (seconds, tag) = bytes.split_at(4);
        let seconds = u32::from_be_bytes([seconds[0], seconds[1], seconds[2], seconds[3]]);
        let is_ours = self.mac(remote, seconds).verify_truncated_left(tag).is_ok();
        let age = now.seconds().checked_sub(seconds);
        if is_ours && age.is_some_and(|age| age <= NONCE) { Freshness::Fresh } else { Freshness::Stale }
    }

    fn mac(&self, remote: SocketAddr, seconds: u32) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(&seconds.to_be_bytes());
        mac.update(&remote.port().to_be_bytes());
        match remote.ip() {
            std::net::IpAddr::V4(ip) => mac.update(&ip.octets()),
            std::net::IpAddr::V6(ip) => mac.update(&ip.octets()),
        }
        mac
    }
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nonces(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_nonce_is_for_one_address_and_for_ten_minutes() {
        let nonces = Nonces::new(&[7; 32]);
        let at = |seconds| Now { since: Duration::from_secs(seconds), unix: 0 };
        let [here, there]: [SocketAddr; 2] = ["192.0.2.1:1000", "192.0.2.1:1001"].map(|text| text.parse().unwrap());
        let nonce = nonces.of(here, at(100));
        assert_eq!(nonce.len(), LENGTH);
        assert_eq!(nonces.check(&nonce, here, at(100)), Freshness::Fresh);
        assert_eq!(nonces.check(&nonce, here, at(700)), Freshness::Fresh);
        assert_eq!(nonces.check(&nonce, here, at(701)), Freshness::Stale);
        assert_eq!(nonces.check(&nonce, here, at(99)), Freshness::Stale, "from the future");
        assert_eq!(nonces.check(&nonce, there, at(100)), Freshness::Stale);
        assert_eq!(Nonces::new(&[8; 32]).check(&nonce, here, at(100)), Freshness::Stale, "another process's");
        for other in ["", "AAAAAAAAAAAAAAAA", "not base64 at all", &nonce[1..]] {
            assert_eq!(nonces.check(other, here, at(100)), Freshness::Stale);
        }
    }
}
