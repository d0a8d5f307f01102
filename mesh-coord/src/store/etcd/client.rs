//! A connection to one member of an etcd: requests, and what their failures mean.

use std::time::Duration;

use axum::http::uri::PathAndQuery;
use prost::Message;
use tokio::time::timeout;
use tonic::{
    Code, IntoStreamingRequest, Request, Status, Streaming,
    client::Grpc,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};
use tonic_prost::ProstCodec;

use super::wire::{AUTHENTICATE, AuthenticateRequest, AuthenticateResponse};
use crate::store::StoreError;

/// The largest answer, in bytes: a page of a load.
const LARGEST: usize = 64 << 20;

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// etcd says that it doesn't do it, so nothing has changed.
    Refused(StoreError),
    /// What was asked for is older than etcd remembers.
    Compacted,
    /// The credentials are too old, so nothing has changed. New ones may help.
    Expired,
    /// No member was reached, so nothing was sent.
    Away,
    /// It was sent, and there is no answer that tells what came of it.
    Unanswered(String),
}

impl Trouble {
    /// What an error means for a request that changes nothing.
    pub(super) fn of_read(self) -> StoreError {
        match self {
            Self::Refused(error) => error,
            Self::Compacted => StoreError::Failed("etcd has forgotten what was to be read".to_owned()),
            Self::Expired => StoreError::Failed("etcd doesn't take the user of --etcd-login".to_owned()),
            Self::Away | Self::Unanswered(_) => StoreError::Away,
        }
    }

    /// The same for one that changes something.
    pub(super) fn of_write(self) -> StoreError {
        match self {
            Self::Unanswered(_) => StoreError::Unknown,
            other => other.of_read(),
        }
    }
}

/// What etcd's status means.
fn trouble(status: &Status) -> Trouble {
    let what = status.message();
    let failed = || Trouble::Refused(StoreError::Failed(format!("etcd says: {what}")));
    match status.code() {
        Code::ResourceExhausted if what.contains("space exceeded") => Trouble::Refused(StoreError::Quota),
        Code::ResourceExhausted if what.contains("too many requests") => failed(),
        Code::InvalidArgument if what.contains("request is too large") => Trouble::Refused(StoreError::TooLarge),
        Code::InvalidArgument if what.contains("revision of auth store is old") => Trouble::Expired,
        Code::Unauthenticated => Trouble::Expired,
        Code::OutOfRange if what.contains("compacted") => Trouble::Compacted,
        // These come before anything is done. "etcdserver:" is no proxy's word.
        Code::InvalidArgument
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::NotFound
        | Code::OutOfRange
            if what.contains("etcdserver") =>
        {
            failed()
        }
        Code::Unimplemented => failed(),
        _ => Trouble::Unanswered(what.to_owned()),
    }
}

/// A connection.
#[derive(Debug, Clone)]
pub(super) struct Client {
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
}

impl Client {
    pub(super) const fn new(channel: Channel) -> Self {
        Self { channel, token: None }
    }

    /// The same for a user.
    pub(super) async fn authenticated(self, login: AuthenticateRequest, patience: Duration) -> Result<Self, Trouble> {
        let AuthenticateResponse { token } = self.call(AUTHENTICATE, login, patience).await?;
        let token = token.parse().map_err(|_| Trouble::Unanswered("a token that is no text".to_owned()))?;
        Ok(Self { token: Some(token), ..self })
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn call<Q, A>(&self, path: &'static str, request: Q, patience: Duration) -> Result<A, Trouble>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let call = async {
            let mut grpc = self.grpc().await?;
            let answer = grpc.unary(self.signed(request), PathAndQuery::from_static(path), codec::<Q, A>()).await;
            answer.map(tonic::Response::into_inner).map_err(|status| trouble(&status))
        };
        let late = |_| Trouble::Unanswered(format!("no answer within {} s", patience.as_secs_f32()));
        timeout(patience, call).await.map_err(late)?
    }

    /// Sends one request, and returns the stream of its answers.
    pub(super) async fn stream<Q, A>(
        &self,
        path: &'static str,
        requests: impl futures_util::Stream<Item = Q> + Send + 'static,
        patience: Duration,
    ) -> Result<Streaming<A>, Trouble>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let call = async {
            let mut grpc = self.grpc().await?;
            let mut request = self.signed(requests).into_streaming_request();
            // It ends when this member loses the others.
            request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
            let answer = grpc.streaming(request, PathAndQuery::from_static(path), codec::<Q, A>()).await;
            answer.map(tonic::Response::into_inner).map_err(|status| trouble(&status))
        };
        timeout(patience, call).await.map_err(|_| Trouble::Unanswered("no answer".to_owned()))?
    }

    async fn grpc(&self) -> Result<Grpc<Channel>, Trouble> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(LARGEST);
        grpc.ready().await.map_err(|_| Trouble::Away)?;
        Ok(grpc)
    }

    fn signed<Q>(&self, request: Q) -> Request<Q> {
        let mut request = Request::new(request);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }
}

fn codec<Q: Message + 'static, A: Message + Default + 'static>() -> ProstCodec<Q, A> {
    ProstCodec::default()
}

/// What a stream's end means.
pub(super) fn end_of(status: &Status) -> Trouble {
    trouble(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_etcds_own_no_means_that_nothing_has_changed() {
        let of = |code, what: &str| trouble(&Status::new(code, what)).of_write();
        assert_eq!(of(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"), StoreError::Quota);
        assert_eq!(of(Code::InvalidArgument, "etcdserver: request is too large"), StoreError::TooLarge);
        assert!(matches!(of(Code::PermissionDenied, "etcdserver: permission denied"), StoreError::Failed(_)));
        for (code, what) in [
            (Code::Unavailable, "etcdserver: request timed out"),
            (Code::Unavailable, "etcdserver: leader changed"),
            (Code::DeadlineExceeded, "context deadline exceeded"),
            (Code::Unknown, "transport error"),
            (Code::Internal, "h2 protocol error"),
            (Code::PermissionDenied, "from a proxy"),
            (Code::Cancelled, ""),
        ] {
            assert_eq!(of(code, what), StoreError::Unknown, "{code:?} {what}");
            assert_eq!(trouble(&Status::new(code, what)).of_read(), StoreError::Away);
        }
    }
}
