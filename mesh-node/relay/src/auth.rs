//! Long-term credentials (RFC 8489 §9.2), with HMAC-SHA1 as TURN servers have it.

use std::fmt;

use stun_types::{
    attribute::{Nonce, Realm, Username},
    message::{IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message, MessageWriteVec},
    prelude::{MessageWrite, MessageWriteExt},
};
use zeroize::Zeroizing;

/// A name and a password at a relay.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    username: String,
    password: Zeroizing<String>,
}

impl Login {
    /// A login of this name, with the password as the relay's operator hands it out.
    #[must_use]
    pub fn new(username: impl Into<String>, password: Zeroizing<String>) -> Self {
        Self { username: username.into(), password }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

/// What the relay has said about how to log in, and the key that follows from it.
struct Challenge {
    realm: String,
    nonce: String,
    key: IntegrityKey,
}

/// Signs what is sent to a relay, and looks at the signatures of its answers.
pub(crate) struct Auth {
    login: Login,
    challenge: Option<Challenge>,
}

/// The signature of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signature {
    Valid,
    Absent,
    Wrong,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("login", &self.login).finish_non_exhaustive()
    }
}

impl Auth {
    pub(crate) fn new(login: Login) -> Self {
        Self { login, challenge: None }
    }

    pub(crate) fn login(&self) -> &Login {
        &self.login
    }

    /// Whether the relay has said how to sign, so that requests are signed.
    pub(crate) fn is_challenged(&self) -> bool {
        self.challenge.is_some()
    }

    /// Logs in anew by another login.
    pub(crate) fn replace(&mut self, login: Login) {
        if self.login != login {
            *self = Self::new(login);
        }
    }

    /// Takes the realm and nonce of an answer that asks for (other) credentials. Returns whether they are news, so that
    /// the request is worth a repetition.
    pub(crate) fn challenge(&mut self, answer: &Message<'_>) -> bool {
        let (Ok(realm), Ok(nonce)) = (answer.attribute::<Realm>(), answer.attribute::<Nonce>()) else { return false };
        let (realm, nonce) = (realm.realm(), nonce.nonce());
        match &mut self.challenge {
            Some(known) if known.realm == realm && known.nonce == nonce => return false,
            Some(known) if known.realm == realm => known.nonce = nonce.to_owned(),
            _ => {
                let Login { username, password } = &self.login;
                let credentials =
                    LongTermKeyCredentials::new(username.clone(), password.as_str().to_owned(), realm.to_owned());
                let key = credentials.make_key(IntegrityAlgorithm::Sha1);
                self.challenge = Some(Challenge { realm: realm.to_owned(), nonce: nonce.to_owned(), key });
            }
        }
        true
    }

    /// Completes a request: with a signature, once the relay has said how.
    pub(crate) fn sign(&self, mut request: MessageWriteVec) -> Vec<u8> {
        if let Some(Challenge { realm, nonce, key }) = &self.challenge {
            let username = Username::new(&self.login.username);
            if let (Ok(username), Ok(realm), Ok(nonce)) = (username, Realm::new(realm), Nonce::new(nonce)) {
                let attributes = [&username as &dyn stun_types::prelude::AttributeWrite, &realm, &nonce];
                let written = attributes.into_iter().try_for_each(|attribute| request.add_attribute(attribute));
                // A message of these attributes is far from the limits. A relay refuses what lacks one of them.
                let _ = written.and_then(|()| request.add_message_integrity_with_key(key, IntegrityAlgorithm::Sha1));
            }
        }
        request.finish()
    }

    /// Whether an answer has the relay's signature.
    pub(crate) fn signature(&self, answer: &Message<'_>) -> Signature {
        use stun_types::attribute::{AttributeStaticType, MessageIntegrity, MessageIntegritySha256};
        let signed = answer.has_attribute(MessageIntegrity::TYPE) || answer.has_attribute(MessageIntegritySha256::TYPE);
        match &self.challenge {
            _ if !signed => Signature::Absent,
            Some(known) if answer.validate_integrity_with_key(&known.key).is_ok() => Signature::Valid,
            _ => Signature::Wrong,
        }
    }
}
