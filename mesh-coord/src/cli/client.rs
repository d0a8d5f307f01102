//! How commands reach the coordinator: by its socket, or over the network.

use std::{
    env,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use mesh_link::{LinkError, Method, Proxies, RequestError, Url};
use mesh_model::{AdminCommand, Outcome};
use mesh_proto::{
    message::Refusal,
    token::{Token, TokenKind},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use super::output::{Refused, Unanswered, note};
use crate::{
    api::{Done, NOTHING_THERE},
    data,
};

/// The status of a command that has no result (RFC 9110 §15.6.5).
const UNKNOWN: u16 = 504;

/// The variable with the admin token, because every user of the machine can see arguments.
const TOKEN_VARIABLE: &str = "MESH_ADMIN_TOKEN";
/// The variable with the URL of a coordinator elsewhere.
const URL_VARIABLE: &str = "MESH_COORD_URL";
/// The variable with the data directory of a coordinator on this machine.
const DATA_VARIABLE: &str = "MESH_COORD_DATA";

/// Where the coordinator is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Reach {
    /// The data directory of the coordinator on this machine [env: MESH_COORD_DATA]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The URL of a coordinator on another machine, or several with commas between; $MESH_ADMIN_TOKEN holds the admin token [env:
    /// MESH_COORD_URL]
    #[arg(long, conflicts_with = "data", value_delimiter = ',')]
    url: Vec<Url>,
}

/// The coordinator that is meant.
enum Place {
    Here(PathBuf),
    Afar(Vec<Url>),
}

impl Reach {
    /// The coordinator on this machine with this data directory.
    pub(crate) fn here(data: &Path) -> Self {
        Self { data: Some(data.to_owned()), url: Vec::new() }
    }

    /// Whether a coordinator was named, by flags or variables.
    pub(crate) fn is_given(&self) -> bool {
        let named = [URL_VARIABLE, DATA_VARIABLE, TOKEN_VARIABLE].iter().any(|name| variable(name).is_some());
        self.data.is_some() || !self.url.is_empty() || named
    }

    /// The URLs that were given.
    pub(crate) fn url(&self) -> Option<String> {
        let given: Vec<String> = self.url.iter().map(Url::to_string).collect();
        if given.is_empty() { variable(URL_VARIABLE) } else { Some(given.join(",")) }
    }

    /// Flags come before variables, and the variable with a URL before the admin token's URLs.
    fn place(&self, token: Option<&Token>) -> Result<Place> {
        if !self.url.is_empty() {
            return Ok(Place::Afar(self.url.clone()));
        }
        if let Some(data) = &self.data {
            return Ok(Place::Here(data.clone()));
        }
        if let Some(url) = variable(URL_VARIABLE) {
            let urls = url.split(',').map(str::parse).collect::<Result<_, _>>();
            return Ok(Place::Afar(urls.with_context(|| format!("${URL_VARIABLE}"))?));
        }
        if let Some(data) = variable(DATA_VARIABLE) {
            return Ok(Place::Here(data.into()));
        }
        let urls = token.map(|token| &*token.urls).unwrap_or_default();
        if urls.is_empty() {
            return Ok(Place::Here(data::default_directory()));
        }
        let urls = urls.iter().map(|url| url.parse()).collect::<Result<_, _>>();
        Ok(Place::Afar(urls.with_context(|| format!("${TOKEN_VARIABLE}"))?))
    }

    /// Reads from the coordinator.
    ///
    /// # Errors
    /// If the coordinator can't be reached, or refuses.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.request(Method::GET, path, None::<&()>).await
    }

    /// Carries out a command. `read` picks the command's answer from all outcomes; `Some` accepts any.
    ///
    /// # Errors
    /// If the coordinator can't be reached, refuses, or has answered another command.
    pub(crate) async fn order<T>(&self, command: &AdminCommand, read: impl FnOnce(Outcome) -> Option<T>) -> Result<T> {
        let aim = Aim::unless_dry(matches!(command, AdminCommand::Apply { dry_run: true, .. }));
        let done = self.send::<Done>(aim, Method::POST, "command", Some(command)).await?;
        let done = done.map_err(|error| shown(error, aim))?;
        read(done.outcome).context("the coordinator has answered another command: is its version another one?")
    }

    /// Sends a request.
    ///
    /// # Errors
    /// If the coordinator can't be reached, or refuses. [`Unanswered`] if it may have changed something all the same.
    pub(crate) async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T> {
        let aim = Aim::of(&method);
        self.send(aim, method, path, body).await?.map_err(|error| shown(error, aim))
    }

    /// Has the coordinator try something. Nothing changes, so another coordinator may be asked.
    ///
    /// # Errors
    /// If the coordinator can't be reached, or refuses.
    pub(crate) async fn try_out<T: DeserializeOwned>(&self, path: &str, body: &(impl Serialize + Sync)) -> Result<T> {
        self.send(Aim::Read, Method::POST, path, Some(body)).await?.map_err(|error| shown(error, Aim::Read))
    }

    /// Sends a request that coordinators of earlier versions don't know: then it returns `None`.
    ///
    /// # Errors
    /// If the coordinator can't be reached, or refuses.
    pub(crate) async fn post_if_known<T: DeserializeOwned>(
        &self,
        aim: Aim,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<Option<T>> {
        match self.send(aim, Method::POST, path, Some(body)).await? {
            Ok(answer) => Ok(Some(answer)),
            Err(RequestError::Refused { status: 404, refusal }) if refusal.error == NOTHING_THERE => Ok(None),
            Err(error) => Err(shown(error, aim)),
        }
    }

    async fn send<T: DeserializeOwned>(
        &self,
        aim: Aim,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<Result<T, RequestError>> {
        let path = format!("/v1/admin/{path}");
        let text = variable(TOKEN_VARIABLE).map(Zeroizing::new);
        let token = text.as_ref().map(|text| Token::parse(TokenKind::Admin, text)).transpose();
        let place = self.place(token.as_ref().ok().and_then(Option::as_ref))?;
        let answer = match place {
            Place::Afar(mut urls) => {
                let token = token.with_context(|| format!("${TOKEN_VARIABLE}"))?.ok_or_else(|| {
                    anyhow!(
                        "a coordinator elsewhere needs an admin token, in ${TOKEN_VARIABLE}: make one there with `mesh-coord token \
                         create --admin`"
                    )
                })?;
                let (bearer, proxies) = (token.to_bare_text(), Proxies::of_environment());
                loop {
                    let (stream, url) =
                        mesh_link::connect_any(&urls, token.fingerprint, &proxies).await.map_err(told)?;
                    let (to, way) = (url.authority(), method.clone());
                    match mesh_link::request(stream, &to, way, &path, Some(&bearer), body).await {
                        Err(error) if aim == Aim::Read && urls.len() > 1 && may_be_answered_elsewhere(&error) => {
                            note(&format!("{url}: {error}; going on to the next"));
                            urls.retain(|other| *other != url);
                        }
                        answer => break answer,
                    }
                }
            }
            Place::Here(directory) => {
                let socket = socket(&directory, self.data.is_none(), text.is_some()).await?;
                mesh_link::request(socket, "localhost", method, &path, None, body).await
            }
        };
        Ok(answer)
    }
}

/// An error of a request, with its hint.
pub(crate) fn shown(error: RequestError, aim: Aim) -> anyhow::Error {
    match error {
        RequestError::Refused { status: UNKNOWN, refusal } => Unanswered(refusal.error).into(),
        RequestError::Refused { refusal, .. } => Refused(refusal).into(),
        lost @ RequestError::Lost(_) if aim == Aim::Change => Unanswered(lost.to_string()).into(),
        lost @ RequestError::Lost(_) => lost.into(),
    }
}

/// A value of a query.
pub(crate) fn escaped(text: &str) -> String {
    mesh_link::percent_encoded(text.as_bytes(), b"")
}

/// What a request may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aim {
    /// It reads only, so it can be sent again.
    Read,
    /// It changes something.
    Change,
}

impl Aim {
    fn of(method: &Method) -> Self {
        if *method == Method::GET { Self::Read } else { Self::Change }
    }

    /// Of a request that is only tried if `dry_run`.
    pub(crate) const fn unless_dry(dry_run: bool) -> Self {
        if dry_run { Self::Read } else { Self::Change }
    }
}

/// Whether another coordinator may answer where one has failed so.
const fn may_be_answered_elsewhere(error: &RequestError) -> bool {
    match error {
        RequestError::Lost(_) => true,
        RequestError::Refused { status, .. } => matches!(status, 502..=504),
    }
}

/// A proxy's refusal has a hint.
fn told(error: LinkError) -> anyhow::Error {
    match &error {
        LinkError::Proxy { cause, .. } => Refused(Refusal::new(error.to_string(), cause.hint())).into(),
        LinkError::Unreachable { .. }
        | LinkError::NoUrl { .. }
        | LinkError::OtherCoordinator { .. }
        | LinkError::Tls { .. } => error.into(),
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

async fn socket(directory: &Path, is_default: bool, has_token: bool) -> Result<UnixStream> {
    let path = data::socket_path(directory)?;
    let shown = path.display();
    UnixStream::connect(&path).await.or_else(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::PermissionDenied
            if is_default && runs_as_root() =>
        {
            bail!("a coordinator runs on this machine as root or as a user of its own: `sudo mesh-coord …` reaches it")
        }
        ErrorKind::NotFound | ErrorKind::ConnectionRefused if has_token => bail!(
            "no coordinator answers at {shown}; ${TOKEN_VARIABLE} is set, but no address of its coordinator: give it \
             with --url, or in ${URL_VARIABLE}"
        ),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            Err(silence(&shown.to_string(), elsewhere().filter(|_| is_default).as_deref()))
        }
        ErrorKind::PermissionDenied => bail!(
            "{shown} may not be used by this user: run as root or as the coordinator's own user, or use --url with an \
             admin token"
        ),
        _ => Err(error).with_context(|| format!("{shown} cannot be connected to")),
    })
}

fn silence(shown: &str, elsewhere: Option<&str>) -> anyhow::Error {
    let Some(other) = elsewhere else {
        return anyhow!(
            "no coordinator answers at {shown}: start `mesh-coord serve`, or name the data directory of the running \
             one with --data, or its address with --url"
        );
    };
    let sudo = if nix::unistd::geteuid().is_root() { "" } else { "sudo " };
    anyhow!("no coordinator answers at {shown}, but in {other}: `{sudo}mesh-coord … --data {other}` reaches it")
}

/// Whether the system's coordinator listens, for a user without an own one. The user can't enter its directory, but
/// may list the machine's sockets (proc_net(5)).
fn runs_as_root() -> bool {
    let sockets = || std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    !nix::unistd::geteuid().is_root() && sockets().lines().any(|line| line.ends_with(data::SYSTEM_SOCKET))
}

/// The data directory of a coordinator that listens on this machine, even if this user can't read it.
fn elsewhere() -> Option<String> {
    listening(&std::fs::read_to_string("/proc/net/unix").ok()?)
}

fn listening(sockets: &str) -> Option<String> {
    let directory = |line: &str| {
        let (fields, path) = line.split_once(" /")?;
        let listens = fields.split_whitespace().nth(3) == Some("00010000");
        listens.then(|| path.strip_suffix(data::SOCKET)).flatten()?.strip_suffix('/').map(|path| format!("/{path}"))
    };
    sockets.lines().find_map(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinator_with_another_directory_is_found_by_its_socket() {
        let head = "Num       RefCount Protocol Flags    Type St Inode Path\n";
        let of = |flags: &str, path: &str| {
            listening(&format!("{head}0000000000000000: 00000002 00000000 {flags} 0001 01 4711 {path}\n"))
        };
        assert_eq!(of("00010000", "/srv/my coord/admin.sock").as_deref(), Some("/srv/my coord"));
        for (flags, path) in [
            ("00000000", "/srv/coord/admin.sock"),
            ("00010000", "@/srv/coord/admin.sock"),
            ("00010000", "/srv/xadmin.sock"),
            ("00010000", "/run/agent.sock"),
        ] {
            assert_eq!(of(flags, path), None, "{flags} {path}");
        }
    }

    #[tokio::test]
    async fn a_command_whose_answer_is_lost_has_an_unknown_outcome_and_a_question_has_none() {
        let scratch = data::scratch::Scratch::new();
        let listener = tokio::net::UnixListener::bind(scratch.path().join(data::SOCKET)).unwrap();
        tokio::spawn(async move {
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let _ = tokio::io::AsyncReadExt::read(&mut connection, &mut request).await;
            }
        });
        let reach = Reach { data: Some(scratch.path().to_owned()), url: vec![] };
        let change = AdminCommand::Delete { deployment: "shop".parse().unwrap(), force: false };
        let error = reach.order(&change, Some).await.unwrap_err();
        assert!(error.is::<Unanswered>() && error.to_string().contains("was lost"), "{error}");
        let plan = AdminCommand::Apply { files: vec![], dry_run: true, force: false, prune: None };
        for error in [
            reach.order(&plan, Some).await.unwrap_err(),
            reach.get::<Done>("nodes").await.unwrap_err(),
            reach.try_out::<Done>("preview", &change).await.unwrap_err(),
        ] {
            assert!(!error.is::<Unanswered>(), "{error}");
        }
    }

    #[test]
    fn a_question_goes_on_to_the_next_coordinator_where_one_is_ill() {
        let refused = |status| RequestError::Refused { status, refusal: Refusal::bare("no") };
        assert!(may_be_answered_elsewhere(&RequestError::Lost("it broke".to_owned())));
        assert!([502, 503, 504].map(refused).iter().all(may_be_answered_elsewhere));
        assert!(![400, 401, 404, 409, 429, 500, 507].map(refused).iter().any(may_be_answered_elsewhere));
    }

    #[test]
    fn several_urls_may_be_given() {
        let reach = |text: &str| Reach { data: None, url: text.split(',').map(|url| url.parse().unwrap()).collect() };
        let several = reach("https://a:1,https://b:2");
        assert_eq!(several.url().as_deref(), Some("https://a:1,https://b:2"));
        assert!(matches!(several.place(None).unwrap(), Place::Afar(urls) if urls.len() == 2));
    }

    #[test]
    fn what_is_given_with_the_command_comes_first() {
        let token = |urls: &[&str]| Token {
            kind: TokenKind::Admin,
            fingerprint: mesh_proto::token::Fingerprint([1; 32]),
            id: mesh_proto::TokenId(1),
            secret: mesh_proto::Secret::from_bytes([3; 32]),
            urls: urls.iter().map(|url| (*url).to_owned()).collect(),
        };
        let url: Url = "https://given".parse().unwrap();
        let given = Reach { data: None, url: vec![url.clone()] }.place(Some(&token(&["https://token"]))).unwrap();
        assert!(matches!(given, Place::Afar(urls) if urls == [url]));
        let here = Reach { data: Some("/d".into()), url: vec![] }.place(Some(&token(&["https://token"]))).unwrap();
        assert!(matches!(here, Place::Here(path) if path == Path::new("/d")));
        let said = Reach { data: None, url: vec![] }.place(Some(&token(&["https://token:1"]))).unwrap();
        assert!(matches!(said, Place::Afar(urls) if urls[0].to_string() == "https://token:1"));
        assert!(Reach { data: None, url: vec![] }.place(Some(&token(&["https://to ken"]))).is_err());
    }
}
