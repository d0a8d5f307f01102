//! Answers by `Idempotency-Key`: a request that comes again, because its answer was lost, isn't carried out again.
//! They are kept in memory, for a while, and with a share for each token.

mod kept;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    body::Bytes,
    http::{HeaderMap, Method, StatusCode, Uri},
};
use mesh_model::Via;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use self::kept::Kept;
use super::failure::Refused;

/// For how long an answer is kept.
const KEPT: Duration = Duration::from_secs(3600);
/// The most answers of one token, or of one user of the socket.
const ANSWERS: usize = 64;
/// The most bytes of all answers together.
const BYTES: usize = 16 << 20;
/// The largest answer.
pub(super) const MOST_BYTES: usize = 4 << 20;
/// The longest key, in bytes.
const KEY: usize = 255;

/// What is asked, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request([u8; 32]);

impl Request {
    pub(super) fn of(method: &Method, uri: &Uri, body: &[u8]) -> Self {
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        let mut hash = Sha256::new();
        for part in [method.as_str().as_bytes(), path.as_bytes(), body] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }
}

/// An answer.
#[derive(Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) bytes: Bytes,
}

impl Answer {
    /// Whether the same request would get another answer a moment later.
    fn is_passing(&self) -> bool {
        self.status.is_server_error()
            || self.status == StatusCode::TOO_MANY_REQUESTS
            || self.status == StatusCode::REQUEST_TIMEOUT
    }
}

/// The key of a request, if it has one.
///
/// # Errors
/// If it is no key.
pub(super) fn key_of(headers: &HeaderMap) -> Result<Option<String>, Refused> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=KEY).contains(&key.len()));
    let key = key.ok_or_else(|| {
        let error = format!("an Idempotency-Key has 1 to {KEY} visible ASCII characters");
        Refused::new(StatusCode::BAD_REQUEST, error, "a random UUID does")
    })?;
    Ok(Some(key.to_owned()))
}

/// The answers of before.
#[derive(Clone, Default)]
pub(super) struct Answers(Arc<Mutex<Kept>>);

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answers")
    }
}

/// How a request with a key goes on.
pub(super) enum Begun {
    /// It is carried out.
    First(Turn),
    /// Its answer is there.
    Again(Answer),
    /// It is being carried out.
    Running,
    /// Its key came with another request.
    Another,
}

/// The right to carry a request out. Dropped without an answer, the key is free again.
pub(super) struct Turn {
    answers: Answers,
    by: Via,
    key: String,
}

impl Answers {
    pub(super) fn begin(&self, by: Via, key: &str, request: Request, now: Instant) -> Begun {
        let mut kept = self.lock();
        kept.forget(now);
        if let Some((before, answer)) = kept.find(by, key) {
            return match answer {
                _ if *before != request => Begun::Another,
                Some(answer) => Begun::Again(answer.clone()),
                None => Begun::Running,
            };
        }
        kept.begin(by, key, request);
        Begun::First(Turn { answers: self.clone(), by, key: key.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Keeps the answer, unless it is one of the moment.
    pub(super) fn finish(self, answer: Answer, now: Instant) {
        if answer.is_passing() {
            return;
        }
        self.answers.lock().finish(self.by, &self.key, answer, now);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.answers.lock().release(self.by, &self.key);
    }
}

#[cfg(test)]
mod tests {
    use mesh_proto::TokenId;

    use super::*;

    fn request(body: &str) -> Request {
        Request::of(&Method::POST, &Uri::from_static("/v1/admin/tokens?dry_run=false"), body.as_bytes())
    }

    fn answer(status: u16, bytes: usize) -> Answer {
        Answer { status: StatusCode::from_u16(status).unwrap(), bytes: Bytes::from(vec![b'x'; bytes]) }
    }

    const ME: Via = Via::Token(TokenId(1));

    fn first(answers: &Answers, by: Via, key: &str, now: Instant) -> Turn {
        match answers.begin(by, key, request("a"), now) {
            Begun::First(turn) => turn,
            _ => panic!("{key} is known"),
        }
    }

    #[test]
    fn a_request_that_comes_again_gets_the_answer_of_before() {
        let (answers, now) = (Answers::default(), Instant::now());
        let turn = first(&answers, ME, "k", now);
        assert!(matches!(answers.begin(ME, "k", request("a"), now), Begun::Running));
        turn.finish(answer(201, 7), now);
        let Begun::Again(again) = answers.begin(ME, "k", request("a"), now) else { panic!("it was carried out again") };
        assert_eq!((again.status, again.bytes.len()), (StatusCode::CREATED, 7));
        assert!(matches!(answers.begin(ME, "k", request("b"), now), Begun::Another));
        first(&answers, Via::Token(TokenId(2)), "k", now);
        first(&answers, ME, "k", now + KEPT);
    }

    #[test]
    fn what_was_not_done_may_be_tried_again() {
        let (answers, now) = (Answers::default(), Instant::now());
        for status in [429, 503, 504] {
            first(&answers, ME, "k", now).finish(answer(status, 7), now);
        }
        drop(first(&answers, ME, "k", now));
        first(&answers, ME, "k", now).finish(answer(409, 7), now);
        assert!(matches!(answers.begin(ME, "k", request("a"), now), Begun::Again(_)));
    }

    #[test]
    fn who_asks_much_takes_its_own_room_only() {
        let (answers, now) = (Answers::default(), Instant::now());
        first(&answers, ME, "mine", now).finish(answer(200, 100), now);
        for n in 0..200 {
            let key = n.to_string();
            first(&answers, Via::Token(TokenId(2)), &key, now).finish(answer(200, 1 << 20), now);
        }
        assert!(matches!(answers.begin(ME, "mine", request("a"), now), Begun::Again(_)));
        assert!(answers.lock().checked_bytes() <= BYTES);
        // What was kept for an hour is forgotten.
        drop(answers.begin(ME, "later", request("a"), now + KEPT));
        assert_eq!(answers.lock().checked_bytes(), 0);
    }
}
