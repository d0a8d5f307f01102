//! How a machine becomes a runner: it asks the coordinator that the token names, and no other.

use std::{io, net::SocketAddr, time::Duration};

use mesh_link::{LinkError, Method, Proxies, RequestError, Url};
use mesh_proto::{
    Label, Range, endpoint,
    message::{Enrol, Enrolled, Info, PROTOCOL, Refusal, enrol_purpose},
    token::{Credential, Token},
};
use zeroize::Zeroizing;

use super::{
    identity::{Enrolment, Identity},
    lookup,
};
use crate::{attach, config::Endpoint, control, state::StateDir};

/// How often a request without an answer is tried.
const ATTEMPTS: u32 = 5;

/// The same for a connection that was made and then broken, as by a coordinator that many machines of one address reach at once:
/// for about a minute.
const ATTEMPTS_WHERE_IT_ANSWERS: u32 = 20;

/// What the operator asks for.
#[derive(Debug)]
pub(crate) struct Application {
    /// Where the coordinator is, one at least.
    pub(crate) coordinators: Vec<Url>,
    /// The join token.
    pub(crate) token: Token,
    /// The runner's name.
    pub(crate) name: Label,
    /// Its provider.
    pub(crate) provider: Label,
    /// The proxies that lead there.
    pub(crate) proxies: Proxies,
    /// Whether it replaces the runner that has the name.
    pub(crate) replace: bool,
}

/// Enrols. The key is stored before the coordinator learns it: however often the answer is lost, the same runner asks again.
///
/// # Errors
/// If the mesh's range clashes with a route here or holds an endpoint that was named, the coordinator refuses, or doesn't answer.
pub(crate) async fn enrol(
    state: &StateDir,
    identity: &mut Identity,
    endpoints: &[Endpoint],
    wish: &Application,
) -> Result<(), Refusal> {
    let info: Info = request(wish, Method::GET, "/v1/info", None::<&()>).await?;
    if info.protocol != PROTOCOL {
        let behind = if info.protocol > PROTOCOL { "this agent" } else { "the coordinator" };
        return Err(Refusal::new(
            format!(
                "the coordinator speaks version {} of the protocol, and this agent version {PROTOCOL}",
                info.protocol
            ),
            format!("upgrade {behind}"),
        ));
    }
    check_machine(info.range, endpoints).await?;
    let proof = identity
        .private_key
        .prove(info.enrol_key, &enrol_purpose(wish.token.id))
        .ok_or_else(|| Refusal::new("the coordinator's enrolment key is no key", "is its data directory damaged?"))?;
    identity.save(state)?;
    let token = wish.token.to_bare_text();
    let body = Enrol {
        token: token.to_string(),
        name: wish.name.clone(),
        provider: wish.provider.clone(),
        public_key: identity.private_key.public(),
        proof,
        replace: wish.replace,
    };
    let answer = request::<Enrolled>(wish, Method::POST, "/v1/enrol", Some(&body)).await;
    drop(Zeroizing::new(body.token));
    let Enrolled { runner, credential } = answer?;
    let credential: Credential = Zeroizing::new(credential)
        .parse()
        .map_err(|e| Refusal::bare(format!("the coordinator's answer makes no sense: {e}")))?;
    identity.enrolment = Some(Enrolment {
        runner,
        name: wish.name.clone(),
        provider: Some(wish.provider.clone()),
        credential,
        coordinators: wish.coordinators.clone(),
        fingerprint: wish.token.fingerprint,
    });
    identity.save(state)?;
    tracing::info!(%runner, name = %wish.name, "enrolled");
    Ok(())
}

/// Whether a mesh with this range can work on this machine, at these endpoints.
async fn check_machine(range: Range, endpoints: &[Endpoint]) -> Result<(), Refusal> {
    for named in endpoints {
        check_endpoint(named, range).await?;
    }
    let clash = tokio::task::spawn_blocking(move || attach::clash(range)).await;
    match clash {
        Ok(Ok(None)) => Ok(()),
        Ok(Ok(Some(clash))) => Err(Refusal::new(
            format!("the mesh's range {range} clashes with this machine's routes: {clash}"),
            "remove that route if it isn't needed; else the mesh needs another range, chosen with `mesh-coord serve --range` at its \
             first start",
        )),
        Ok(Err(error)) => Err(Refusal::bare(format!("this machine's routes can't be read: {error}"))),
        Err(panic) => Err(Refusal::bare(format!("this machine's routes can't be read: {panic}"))),
    }
}

/// Whether other runners can use an endpoint. A name counts if one of its addresses does; it may have none today.
async fn check_endpoint(named: &Endpoint, range: Range) -> Result<(), Refusal> {
    let refusal = |words: String| {
        Refusal::new(words, "name an address of this machine that other runners reach, or leave --endpoint out")
    };
    match named {
        Endpoint::At(address) => {
            endpoint::check(*address, Some(range)).map_err(|why| refusal(format!("the endpoint {named} {why}")))
        }
        Endpoint::Name(place) => match lookup::addresses(place).await {
            Ok(found) => {
                let check = |at: &SocketAddr| Some((at.ip(), endpoint::check(*at, Some(range)).err()?));
                let unfit: Vec<_> = found.iter().filter_map(check).collect();
                match unfit.first() {
                    Some((first, why)) if unfit.len() == found.len() => {
                        Err(refusal(format!("the endpoint {named} means {first}, which {why}")))
                    }
                    _ => Ok(()),
                }
            }
            Err(why) => {
                tracing::warn!("the endpoint {named} has no address: {why}; the agent asks again every minute");
                Ok(())
            }
        },
        Endpoint::Seen(_) => Ok(()),
    }
}

/// Asks until there is an answer, a few times.
async fn request<T: serde::de::DeserializeOwned>(
    wish: &Application,
    method: Method,
    path: &str,
    body: Option<&(impl serde::Serialize + Sync)>,
) -> Result<T, Refusal> {
    let mut backoff = control::pauses();
    let mut attempt = 1;
    loop {
        let (lost, most) = match request_once(wish, method.clone(), path, body).await {
            Ok(answer) => return Ok(answer),
            Err(Failure::Final(refusal)) => return Err(refusal),
            Err(Failure::Unreachable(refusal)) => (refusal, ATTEMPTS),
            Err(Failure::Lost(refusal)) => (refusal, ATTEMPTS_WHERE_IT_ANSWERS),
        };
        if attempt >= most {
            return Err(lost);
        }
        attempt += 1;
        let wait: Duration = backoff.next_spread(control::random());
        tracing::debug!(%lost, "trying again");
        tokio::time::sleep(wait).await;
    }
}

enum Failure {
    Final(Refusal),
    Unreachable(Refusal),
    Lost(Refusal),
}

async fn request_once<T: serde::de::DeserializeOwned>(
    wish: &Application,
    method: Method,
    path: &str,
    body: Option<&(impl serde::Serialize + Sync)>,
) -> Result<T, Failure> {
    let (stream, url) = mesh_link::connect_any(&wish.coordinators, wish.token.fingerprint, &wish.proxies)
        .await
        .map_err(|error| match error {
            LinkError::OtherCoordinator { .. } => Failure::Final(Refusal::new(
                error.to_string(),
                "the token was made by another coordinator: is the URL right, and the token current?",
            )),
            LinkError::Proxy { ref cause, .. } => {
                let refusal = Refusal::new(error.to_string(), cause.hint());
                if cause.is_refusal() { Failure::Final(refusal) } else { Failure::Unreachable(refusal) }
            }
            LinkError::Tls { error: ref cause, .. } if cause.kind() == io::ErrorKind::ConnectionReset => {
                Failure::Lost(Refusal::new(error.to_string(), "try again; is that the coordinator's port?"))
            }
            LinkError::Tls { .. } | LinkError::Unreachable { .. } | LinkError::NoUrl { .. } => {
                Failure::Unreachable(Refusal::new(
                    error.to_string(),
                    "is the coordinator running, and does a firewall let its port through?",
                ))
            }
        })?;
    mesh_link::request(stream, &url.authority(), method, path, None, body).await.map_err(|error| match error {
        // Too late (408) and too many (429) say nothing about the token.
        RequestError::Refused { status, refusal } if (400..500).contains(&status) && !matches!(status, 408 | 429) => {
            Failure::Final(refusal)
        }
        RequestError::Refused { refusal, .. } => Failure::Lost(refusal),
        RequestError::Lost(_) => Failure::Lost(Refusal::new(error.to_string(), "try again")),
    })
}

#[cfg(test)]
mod tests;
