//! What an own relay (`mesh-coord relay`) and the coordinator say to each other: enrolment over HTTPS, then a WebSocket
//! with JSON texts. A relay works without it for days: it learns only of runners that were removed.

use serde::{Deserialize, Serialize};

use super::{Place, Pseudonym};
use crate::{Label, RelayId, token::Fingerprint};

/// Where runners reach a relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RelayPublic {
    /// Where it takes datagrams.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub udp: Vec<Place>,
    /// Where it takes TCP connections.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tcp: Vec<Place>,
    /// Where it takes TLS connections.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tls: Vec<Place>,
    /// The fingerprint of its TLS key; `None`: TLS is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
}

/// `POST /v1/relay/enrol`: makes a process a relay of the mesh.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RelayEnrol {
    /// The whole relay token.
    pub token: String,
    /// Where runners reach it.
    pub public: RelayPublic,
}

/// The answer to [`RelayEnrol`].
#[derive(Clone, Serialize, Deserialize)]
pub struct RelayEnrolled {
    /// The relay's identifier.
    pub relay: RelayId,
    /// Its name, which the token had.
    pub name: Label,
    /// The whole credential for the stream.
    pub credential: String,
    /// The text of its [`super::RelaySecret`], from which runners' passwords are made.
    pub secret: String,
}

/// Without the secrets.
impl std::fmt::Debug for RelayEnrolled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelayEnrolled").field("relay", &self.relay).field("name", &self.name).finish_non_exhaustive()
    }
}

/// A message from a relay. The first one is [`RelayUp::Hello`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum RelayUp {
    /// Begins a stream.
    Hello {
        /// The relay's [`crate::message::PROTOCOL`].
        protocol: u32,
        /// The relay's version, for `relays`.
        version: String,
        /// Where runners reach it now.
        public: RelayPublic,
    },
    /// The answer to [`RelayDown::Ping`].
    Pong,
}

/// A message from the coordinator.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum RelayDown {
    /// The stream has begun.
    Welcome {
        /// All that are revoked, as far as the coordinator remembers.
        revoked: Vec<Revoked>,
    },
    /// More are revoked.
    Revoked {
        /// Those.
        revoked: Vec<Revoked>,
    },
    /// A heartbeat, sent every two seconds. Either side drops a stream that was silent for three intervals.
    Ping,
}

/// A runner that was removed. The relay ends its allocation at once, and takes none from it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Revoked {
    /// Its name at this relay.
    pub pseudonym: Pseudonym,
    /// When its last credential has expired, in seconds since 1970. The relay forgets it then.
    pub until: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn frozen<T: Serialize + for<'a> Deserialize<'a>>(value: &T, text: &str) {
        assert_eq!(serde_json::to_string(value).unwrap(), text);
        assert_eq!(serde_json::to_string(&serde_json::from_str::<T>(text).unwrap()).unwrap(), text);
    }

    fn public() -> RelayPublic {
        RelayPublic {
            udp: vec!["203.0.113.9:3478".parse().unwrap()],
            tcp: vec![],
            tls: vec!["203.0.113.9:443".parse().unwrap()],
            fingerprint: Some(Fingerprint([7; 32])),
        }
    }

    #[test]
    fn what_a_relay_and_the_coordinator_say_is_frozen() {
        let text = r#"{"udp":["203.0.113.9:3478"],"tls":["203.0.113.9:443"],"fingerprint":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"}"#;
        let enrol = RelayEnrol { token: "meshrelay1.x".to_owned(), public: public() };
        frozen(&enrol, &format!(r#"{{"token":"meshrelay1.x","public":{text}}}"#));
        let enrolled = RelayEnrolled {
            relay: RelayId(8),
            name: "fra-1".parse().unwrap(),
            credential: "meshrelaycred1.x".to_owned(),
            secret: "north".to_owned(),
        };
        frozen(&enrolled, r#"{"relay":"relay-8","name":"fra-1","credential":"meshrelaycred1.x","secret":"north"}"#);
        let shown = format!("{enrolled:?}");
        assert!(!shown.contains("north") && !shown.contains("meshrelaycred1"), "{shown}");
        frozen(
            &RelayUp::Hello { protocol: 1, version: "0.3.0".to_owned(), public: public() },
            &format!(r#"{{"type":"hello","protocol":1,"version":"0.3.0","public":{text}}}"#),
        );
        frozen(&RelayUp::Pong, r#"{"type":"pong"}"#);
        let pseudonym = "00112233445566778899aabbccddeeff".parse().unwrap();
        let revoked = vec![Revoked { pseudonym, until: 1_900_000_000 }];
        let list = r#"[{"pseudonym":"00112233445566778899aabbccddeeff","until":1900000000}]"#;
        frozen(&RelayDown::Welcome { revoked: revoked.clone() }, &format!(r#"{{"type":"welcome","revoked":{list}}}"#));
        frozen(&RelayDown::Revoked { revoked }, &format!(r#"{{"type":"revoked","revoked":{list}}}"#));
        frozen(&RelayDown::Ping, r#"{"type":"ping"}"#);
    }
}
