//! The join token: where it is read from, and the URLs in it.

use std::{
    fs,
    io::{self, Read as _},
};

use mesh_link::{Url, UrlError};
use mesh_process::secrets::TokenArgument;
use mesh_proto::token::{Token, TokenKind};
use zeroize::Zeroizing;

use super::JoinError;

/// The longest token file that is read, in bytes.
const MAX_TOKEN: u64 = 16 << 10;

/// The URLs that a token carries.
pub(super) fn urls_of(token: &Token) -> Result<Vec<Url>, JoinError> {
    token.urls.iter().map(|url| url.parse()).collect::<Result<_, UrlError>>().map_err(JoinError::UrlInToken)
}

pub(super) fn read_token(argument: &TokenArgument) -> Result<Token, JoinError> {
    let mut text = Zeroizing::new(String::new());
    let read = match argument.expose() {
        "-" => io::stdin().lock().take(MAX_TOKEN).read_to_string(&mut text),
        given => match given.strip_prefix('@') {
            Some(path) => fs::File::open(path).and_then(|file| file.take(MAX_TOKEN).read_to_string(&mut text)),
            None => {
                text.push_str(given);
                Ok(0)
            }
        },
    };
    read.map_err(|error| {
        let place = if argument.expose() == "-" { "standard input" } else { argument.expose().trim_start_matches('@') };
        JoinError::UnreadableToken { place: place.to_owned(), error }
    })?;
    Ok(Token::parse(TokenKind::Join, &text)?)
}
