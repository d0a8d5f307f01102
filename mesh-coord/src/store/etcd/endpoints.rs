//! The members of an etcd, of which one is used until it fails. A balancer would go on sending to a dead one.

use std::{fmt, time::Duration};

use prost::Message;
use tokio::sync::{Mutex, watch};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tracing::debug;
use zeroize::Zeroizing;

use super::{
    client::{Client, Trouble},
    place::Place,
    wire::AuthenticateRequest,
};
use crate::store::StoreError;

/// How long connecting to a member may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// How long an answer may take that changes nothing, before another member is asked.
const READ_PATIENCE: Duration = Duration::from_millis(1500);
/// The same of one that changes something. It is asked for once.
const WRITE_PATIENCE: Duration = Duration::from_secs(4);
/// The pause between signs of life on an idle connection. etcd ends connections with more than one in 5 s.
const KEEPALIVE: Duration = Duration::from_secs(6);
const KEEPALIVE_PATIENCE: Duration = Duration::from_secs(3);

/// How a coordinator proves to an etcd who it is, and the other way round.
#[derive(Default, Clone)]
pub(crate) struct Access {
    /// The certificates (PEM) that prove etcd's members; with them TLS is used.
    pub(crate) ca: Option<Vec<u8>>,
    /// The coordinator's certificate and its key (PEM).
    pub(crate) identity: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    /// The coordinator's user and password.
    pub(crate) login: Option<(String, Zeroizing<String>)>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Access")
    }
}

/// Which of several members is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Picker {
    members: usize,
    current: usize,
    /// How often another one was picked.
    turns: u64,
}

impl Picker {
    /// The member at `member` has failed. Another is picked, unless that has happened already.
    const fn failed(&mut self, member: usize) {
        if member == self.current {
            self.current = (self.current + 1) % self.members;
            self.turns += 1;
        }
    }
}

/// The connections to the members.
#[derive(Debug)]
pub(super) struct Endpoints {
    members: Vec<Endpoint>,
    access: Access,
    state: Mutex<State>,
    /// How often another member was picked.
    turns: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    picker: Picker,
    clients: Vec<Option<Client>>,
}

/// A connection, with its member.
#[derive(Debug)]
pub(super) struct Connection {
    member: usize,
    pub(super) client: Client,
}

impl Endpoints {
    /// Connects to none of them yet, and begins with the one at `first`.
    ///
    /// # Errors
    /// If the certificates can't be read.
    pub(super) fn new(place: &Place, access: Access, first: usize) -> Result<Self, StoreError> {
        let members: Vec<_> = place.members.iter().map(|at| endpoint(at, &access)).collect::<Result<_, _>>()?;
        let picker = Picker { members: members.len(), current: first % members.len().max(1), turns: 0 };
        let state = Mutex::new(State { picker, clients: vec![None; members.len()] });
        Ok(Self { members, access, state, turns: watch::Sender::new(0) })
    }

    /// Changes whenever another member is picked.
    pub(super) fn turns(&self) -> watch::Receiver<u64> {
        self.turns.subscribe()
    }

    /// A connection to the picked member, or to the next one that can be reached.
    pub(super) async fn connect(&self) -> Result<Connection, Trouble> {
        let mut state = self.state.lock().await;
        let mut trouble = Trouble::Away;
        for _ in 0..self.members.len() {
            let member = state.picker.current;
            if let Some(client) = &state.clients[member] {
                return Ok(Connection { member, client: client.clone() });
            }
            match self.reach(member).await {
                Ok(client) => {
                    state.clients[member] = Some(client.clone());
                    return Ok(Connection { member, client });
                }
                Err(error) => {
                    debug!(member = %self.members[member].uri(), ?error, "etcd's member cannot be used");
                    if !matches!(error, Trouble::Unanswered(_)) {
                        trouble = error;
                    }
                    self.turn(&mut state, member);
                }
            }
        }
        Err(trouble)
    }

    async fn reach(&self, member: usize) -> Result<Client, Trouble> {
        let channel = tokio::time::timeout(CONNECT_PATIENCE, self.members[member].connect()).await;
        let channel = channel.map_err(|_| Trouble::Away)?.map_err(|error| {
            debug!(member = %self.members[member].uri(), ?error, "no connection to etcd's member");
            Trouble::Away
        })?;
        let client = Client::new(channel);
        let Some((name, password)) = &self.access.login else { return Ok(client) };
        let login = AuthenticateRequest { name: name.clone(), password: password.to_string() };
        client.authenticated(login, READ_PATIENCE).await
    }

    /// What came over this connection shows that its member can't be used.
    pub(super) async fn failed(&self, connection: &Connection) {
        let mut state = self.state.lock().await;
        state.clients[connection.member] = None;
        self.turn(&mut state, connection.member);
    }

    fn turn(&self, state: &mut State, member: usize) {
        state.picker.failed(member);
        let turns = state.picker.turns;
        self.turns.send_if_modified(|known| std::mem::replace(known, turns) != turns);
    }

    /// Asks for what changes nothing: each member, until one answers.
    pub(super) async fn read<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Trouble>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        self.ask(path, request, READ_PATIENCE, true).await
    }

    /// Asks for what changes something: a request that may have arrived is not sent again.
    pub(super) async fn write<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Trouble>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        self.ask(path, request, WRITE_PATIENCE, false).await
    }

    async fn ask<Q, A>(&self, path: &'static str, request: Q, patience: Duration, again: bool) -> Result<A, Trouble>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let mut trouble = Trouble::Away;
        // Once more than there are members, because a connection or a user's token may be an old one.
        for _ in 0..=self.members.len() {
            let connection = self.connect().await?;
            trouble = match connection.client.call(path, request.clone(), patience).await {
                Err(trouble @ (Trouble::Away | Trouble::Expired | Trouble::Unanswered(_))) => trouble,
                answered => return answered,
            };
            self.failed(&connection).await;
            if matches!(trouble, Trouble::Unanswered(_)) && !again {
                break;
            }
        }
        Err(trouble)
    }
}

fn endpoint(at: &str, access: &Access) -> Result<Endpoint, StoreError> {
    let failed = |error: tonic::transport::Error| {
        let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        StoreError::Failed(format!("etcd's member {at} cannot be used: {why}"))
    };
    let scheme = if access.ca.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{at}")).map_err(failed)?;
    if let Some(ca) = &access.ca {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
        if let Some((certificate, key)) = &access.identity {
            tls = tls.identity(Identity::from_pem(certificate, &**key));
        }
        endpoint = endpoint.tls_config(tls).map_err(failed)?;
    }
    Ok(endpoint
        .connect_timeout(CONNECT_PATIENCE)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_PATIENCE)
        .keep_alive_while_idle(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_used_until_it_fails() {
        let mut picker = Picker { members: 3, current: 1, turns: 0 };
        picker.failed(0);
        assert_eq!(picker.current, 1, "another one's failure changes nothing");
        picker.failed(1);
        picker.failed(1);
        assert_eq!((picker.current, picker.turns), (2, 1), "two requests that fail at once are one failure");
        picker.failed(2);
        assert_eq!(picker.current, 0);
    }

    #[tokio::test]
    async fn a_member_that_cannot_be_reached_is_passed_over() {
        // Nothing listens there.
        let place: Place = "etcd://127.0.0.1:1,127.0.0.1:2/p".parse().unwrap();
        let endpoints = Endpoints::new(&place, Access::default(), 0).unwrap();
        assert_eq!(endpoints.connect().await.unwrap_err(), Trouble::Away);
        assert_eq!(*endpoints.turns().borrow(), 2);
    }

    #[test]
    fn secrets_are_not_shown() {
        let login = Some(("root".to_owned(), Zeroizing::new("hunter2".to_owned())));
        let access = Access { login, ..Access::default() };
        assert!(!format!("{access:?}").contains("hunter2"));
    }
}
