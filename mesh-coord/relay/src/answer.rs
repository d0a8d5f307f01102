//! Answers to requests.

use std::{fmt, net::SocketAddr};

use stun_types::{
    attribute::{ErrorCode, Nonce, Realm, XorMappedAddress},
    message::{
        IntegrityAlgorithm, IntegrityKey, Message, MessageClass, MessageType, MessageWriteVec, Method, TransactionId,
    },
    prelude::{AttributeWrite, MessageWrite as _, MessageWriteExt as _},
};

use crate::nonce;

/// The realm of all relays (RFC 8489 §9.2.2).
pub(crate) const REALM: &str = "mesh";
/// The length of [`challenge`] in bytes: a header, the error, the realm and the nonce.
pub(crate) const CHALLENGE: usize = 20 + 8 + 8 + 4 + nonce::LENGTH;

/// What an answer needs of its question.
#[derive(Clone, Copy)]
pub(crate) struct Question {
    pub(crate) method: Method,
    pub(crate) transaction: TransactionId,
}

impl Question {
    pub(crate) fn of(message: &Message<'_>) -> Self {
        Self { method: message.method(), transaction: message.transaction_id() }
    }

    fn answer(self, class: MessageClass) -> MessageWriteVec {
        let kind = MessageType::from_class_method(class, self.method);
        Message::builder(kind, self.transaction, MessageWriteVec::with_capacity(128))
    }

    /// 401 or 438, with what the client has to log in with. Short: it isn't longer than a padded question.
    pub(crate) fn challenge(self, code: u16, nonce: &str) -> Vec<u8> {
        let mut answer = with(self.answer(MessageClass::Error), &[&error(code)]);
        if let (Ok(realm), Ok(nonce)) = (Realm::new(REALM), Nonce::new(nonce)) {
            answer = with(answer, &[&realm, &nonce]);
        }
        answer.finish()
    }

    /// The answer to a Binding request: where it came from.
    pub(crate) fn mapped(self, remote: SocketAddr) -> Vec<u8> {
        with(self.answer(MessageClass::Success), &[&XorMappedAddress::new(remote, self.transaction)]).finish()
    }

    /// The answer to a request with good credentials, signed with the same.
    pub(crate) fn signed(self, key: IntegrityKey) -> Signed {
        Signed { question: self, key }
    }
}

/// The length of the answer to a Binding request.
pub(crate) const fn mapped_length(remote: SocketAddr) -> usize {
    if remote.is_ipv4() { 32 } else { 44 }
}

/// Answers with a signature.
#[derive(Clone)]
pub(crate) struct Signed {
    pub(crate) question: Question,
    key: IntegrityKey,
}

impl Signed {
    pub(crate) fn success(&self, attributes: &[&dyn AttributeWrite]) -> Vec<u8> {
        self.sign(with(self.question.answer(MessageClass::Success), attributes))
    }

    pub(crate) fn error(&self, code: u16) -> Vec<u8> {
        self.sign(with(self.question.answer(MessageClass::Error), &[&error(code)]))
    }

    fn sign(&self, mut answer: MessageWriteVec) -> Vec<u8> {
        // Fails only for a message that has a signature.
        let _ = answer.add_message_integrity_with_key(&self.key, IntegrityAlgorithm::Sha1);
        answer.finish()
    }
}

/// Without the key.
impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed").field("method", &self.question.method).finish_non_exhaustive()
    }
}

fn with(mut answer: MessageWriteVec, attributes: &[&dyn AttributeWrite]) -> MessageWriteVec {
    for attribute in attributes {
        // Fails only behind a signature, or beyond 64 KiB.
        let _ = answer.add_attribute(*attribute);
    }
    answer
}

/// The reason stays empty: programs read the code, and an answer has to be short.
fn error(code: u16) -> ErrorCode {
    ErrorCode::new(code, "").unwrap_or_else(|_| unreachable!("the codes in this crate are between 300 and 699"))
}
