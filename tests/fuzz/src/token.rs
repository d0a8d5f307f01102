//! Texts that are pasted into a command line: tokens, credentials, names.

use std::{fmt::Display, str::FromStr};

use mesh_proto::{
    Label, ServiceName, ServicePath,
    token::{Credential, Fingerprint, Token, TokenKind},
};

/// Parses a text as each of them. A parsed one can be written and parsed again. A refusal has few words, without a
/// secret.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    for kind in [TokenKind::Join, TokenKind::Admin] {
        match Token::parse(kind, text) {
            Ok(token) => {
                assert_eq!(*token.to_text(), text.trim());
                assert!(Token::parse(kind, &token.to_bare_text()).is_ok_and(|bare| bare.urls.is_empty()));
            }
            Err(error) => is_discreet(&error, text),
        }
    }
    match text.parse::<Credential>() {
        Ok(credential) => assert_eq!(*credential.to_text(), text.trim()),
        Err(error) => is_discreet(&error, text),
    }
    match Fingerprint::try_from(text.to_owned()) {
        Ok(fingerprint) => assert_eq!(fingerprint.to_string(), text),
        Err(error) => is_discreet(&error, text),
    }
    is_written_as_read::<Label>(text);
    is_written_as_read::<ServiceName>(text);
    is_written_as_read::<ServicePath>(text);
}

/// The message is short, and quotes nothing of a text that may contain most of a secret.
fn is_discreet(error: &impl Display, text: &str) {
    let message = error.to_string();
    assert!(message.len() < 200, "{message}");
    // From the tenth character on it can't be a quoted prefix, and no word of a message is as long as a secret.
    for word in text.get(10..).unwrap_or_default().split_whitespace().filter(|word| word.len() > 20) {
        assert!(!message.contains(word), "{message}");
    }
}

fn is_written_as_read<T: FromStr<Err: Display> + Display + PartialEq>(text: &str) {
    match text.parse::<T>() {
        Ok(value) => {
            let written = value.to_string();
            assert!(written.parse::<T>().is_ok_and(|again| again == value), "{text:?} is written {written:?}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
