//! `mesh-node join`: makes this machine a runner, if it isn't one, and runs its agent.

use std::{
    fs,
    io::{self, Read as _},
    net::SocketAddr,
    process::ExitCode,
};

use clap::Args;
use mesh_link::{Url, UrlError};
use mesh_process::{log::say, secrets};
use mesh_proto::{
    Label,
    message::{Refusal, Switches},
    token::{MAX_URLS, Token, TokenKind},
};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use super::{
    Context,
    output::{self, Failure},
    runtime,
};
use crate::{
    agent::{self, Application, Identity, Purpose},
    docker,
};

/// The longest token file that is read, in octets.
const MAX_TOKEN: u64 = 16 << 10;
/// The variable that may hold the token: arguments can be seen by every user of the machine.
const TOKEN_VARIABLE: &str = "MESH_TOKEN";

#[derive(Debug, Args)]
pub(super) struct Join {
    /// Where the coordinator is, https://HOST:PORT, if the token doesn't say it; several with commas between. The first time only
    #[arg(value_name = "URL", value_parser = Place::parse)]
    coordinator: Option<Place>,
    /// The join token, the first time: `-` for standard input, @FILE for a file, by default $MESH_TOKEN, or the token itself
    #[arg(value_name = "TOKEN", value_parser = TokenArgument::parse)]
    token: Option<TokenArgument>,
    /// The runner's name; by default the host's
    #[arg(long, value_name = "NAME")]
    name: Option<Label>,
    /// Whose machine this is, for people to read; by default `default`
    #[arg(long, value_name = "PROVIDER")]
    provider: Option<Label>,
    /// The UDP port; 0: any. Remembered; the first time 51820
    #[arg(long, value_name = "PORT", value_parser = parse_port)]
    listen: Option<u16>,
    /// Where other runners reach this one, instead of its interfaces' addresses; `auto`: at those again. Remembered
    #[arg(long, value_name = "ADDR:PORT", value_parser = Endpoint::parse)]
    endpoint: Vec<Endpoint>,
    /// Take the name over from the runner that has it
    #[arg(long)]
    replace: bool,
    /// Join, and end: the agent is started otherwise, as by systemd
    #[arg(long)]
    enrol_only: bool,
    /// No TCP super-packets on mesh0
    #[arg(long)]
    no_tun_gso: bool,
    /// No UDP_SEGMENT on send
    #[arg(long)]
    no_udp_gso: bool,
    /// No UDP_GRO on receive
    #[arg(long)]
    no_udp_gro: bool,
}

/// A token as it was typed: kept out of every error and log.
#[derive(Clone)]
struct TokenArgument(Zeroizing<String>);

impl TokenArgument {
    #[expect(clippy::unnecessary_wraps, reason = "clap's value parsers can fail")]
    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

impl std::fmt::Debug for TokenArgument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenArgument(..)")
    }
}

/// What stands first: a place, or the token if nothing follows it.
#[derive(Debug, Clone)]
enum Place {
    Urls(Vec<Url>),
    Token(TokenArgument),
}

impl Place {
    fn parse(text: &str) -> Result<Self, String> {
        // A path may hold anything, and a token holds neither of these.
        if text.starts_with('@') || text == "-" || !text.contains([':', '/']) {
            return TokenArgument::parse(text).map(Self::Token);
        }
        let urls: Vec<Url> =
            text.split(',').map(str::parse).collect::<Result<_, UrlError>>().map_err(|e| e.to_string())?;
        if urls.len() > MAX_URLS { Err(format!("at most {MAX_URLS} URLs")) } else { Ok(Self::Urls(urls)) }
    }
}

#[derive(Debug, Clone, Copy)]
enum Endpoint {
    Auto,
    At(SocketAddr),
}

fn parse_port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "expected the number of a UDP port, from 0 to 65535, such as 51820".to_owned())
}

impl Endpoint {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text
                .parse()
                .map(Self::At)
                .map_err(|_| "expected ADDR:PORT, such as 203.0.113.7:51820 or [2001:db8::7]:51820".to_owned()),
        }
    }
}

impl Join {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        mesh_process::log::start(output::log_colours());
        let variable = secrets::take_variable(TOKEN_VARIABLE);
        // Only root reads its own /proc/self afterwards all the same.
        if nix::unistd::geteuid().is_root() {
            secrets::forbid_dumps();
        } else {
            secrets::forbid_core_files();
        }
        let state = &context.state;
        let lock = state.take()?;
        let mut identity = match Identity::load(state)? {
            Some(identity) => identity,
            None => Identity::new()?,
        };
        self.choose(&mut identity);
        let offloads = Switches { tun_gso: !self.no_tun_gso, udp_gso: !self.no_udp_gso, udp_gro: !self.no_udp_gro };
        let runtime = runtime()?;
        let ended = runtime.block_on(async {
            // From here on these end nothing: SIGHUP, whether the agent listens to it yet or not, and a log or file that has
            // reached its limit (setrlimit(2)).
            let _caught = [SignalKind::hangup(), SignalKind::from_raw(libc::SIGXFSZ)].map(signal);
            let purpose = if identity.enrolment.is_some() {
                self.go_on(&mut identity)?;
                // Nothing but the options given now can be new.
                if let Err(error) = identity.save(state) {
                    tracing::warn!("{}: what was given now holds until the next start", error.error);
                }
                Purpose::Run
            } else {
                let wish = self.application(variable)?;
                // What would keep the agent from running must not cost the token.
                let ready = agent::prepare(&identity)?;
                agent::enrol(state, &mut identity, &wish).await?;
                drop(ready);
                Purpose::First
            };
            if self.enrol_only {
                say("this machine is a runner of the mesh now; its agent is started with `mesh-node join`, or systemctl start mesh-node");
                return Ok(None);
            }
            agent::run(state.clone(), lock, identity, offloads, purpose, docker::watch).await
        });
        // What still blocks is not waited for: nothing is half done that the next start does not mend.
        runtime.shutdown_background();
        ended?;
        Ok(ExitCode::SUCCESS)
    }

    /// What is remembered of the options.
    fn choose(&self, identity: &mut Identity) {
        if let Some(port) = self.listen {
            identity.listen = Some(port);
        }
        if !self.endpoint.is_empty() {
            let at = |endpoint: &Endpoint| match endpoint {
                Endpoint::At(address) => Some(*address),
                Endpoint::Auto => None,
            };
            identity.endpoints = self.endpoint.iter().filter_map(at).collect();
        }
    }

    /// The URLs and the token that were given.
    fn given(&self) -> Result<(Option<&[Url]>, Option<&TokenArgument>), Refusal> {
        match (&self.coordinator, &self.token) {
            (None, token) => Ok((None, token.as_ref())),
            (Some(Place::Urls(urls)), token) => Ok((Some(urls), token.as_ref())),
            (Some(Place::Token(token)), None) => Ok((None, Some(token))),
            (Some(Place::Token(_)), Some(_)) => Err(Refusal::new(
                "what stands before the token is no URL",
                "write https://HOST:PORT before the token, or nothing if the token begins with mesh2.",
            )),
        }
    }

    /// A runner that has joined goes on; the coordinator may have moved, but not be another one.
    fn go_on(&self, identity: &mut Identity) -> Result<(), Refusal> {
        let Some(enrolment) = &mut identity.enrolment else { return Ok(()) };
        let (urls, token) = self.given()?;
        // A token that is only in the environment may be long out of date.
        let token = token.map(read_token).transpose()?;
        if let Some(token) = &token
            && token.fingerprint != enrolment.fingerprint
        {
            return Err(Refusal::new(
                format!("this machine has joined another coordinator, at {}, as {}", enrolment.shown(), enrolment.name),
                "to join this one as well run a second agent with a --state DIR and a --listen PORT of its own; to move, \
                 leave that one first: `mesh-node leave`",
            ));
        }
        if let Some(name) = self.name.as_ref().filter(|name| **name != enrolment.name) {
            return Err(Refusal::new(
                format!("this machine has joined as {}, and not as {name}", enrolment.name),
                "leave --name out; to join under another name begin with a new --state DIR",
            ));
        }
        if let (Some(given), Some(known)) = (&self.provider, &enrolment.provider)
            && given != known
        {
            return Err(Refusal::new(
                format!("this machine has joined with the provider {known}, and not with {given}"),
                "leave --provider out; to join with another one begin with a new --state DIR",
            ));
        }
        let new = match (urls, token) {
            (Some(urls), _) => urls.to_vec(),
            (None, Some(token)) => urls_of(&token)?,
            (None, None) => vec![],
        };
        if !new.is_empty() {
            enrolment.coordinators = new;
        }
        Ok(())
    }

    fn application(&self, variable: Option<Zeroizing<String>>) -> Result<Application, Refusal> {
        let how = "on the coordinator's machine `mesh-coord token create` makes a token and prints the whole `mesh-node join` line";
        let (urls, token) = self.given()?;
        let argument = match (token, variable) {
            (Some(argument), _) => argument.clone(),
            (None, Some(token)) => TokenArgument(token),
            (None, None) if urls.is_none() => {
                return Err(Refusal::new(
                    "this machine has not joined a mesh, and there is neither a URL nor a token",
                    how,
                ));
            }
            (None, None) => return Err(Refusal::new("there is no token, and none in $MESH_TOKEN", how)),
        };
        let token = read_token(&argument)?;
        let coordinators = match urls {
            Some(urls) => urls.to_vec(),
            None => urls_of(&token)?,
        };
        if coordinators.is_empty() {
            return Err(Refusal::new(
                "this token doesn't say where the coordinator is, and no URL is given",
                "mesh-node join https://HOST:7443 TOKEN; a token carries the URL if its coordinator was started with --advertise URL",
            ));
        }
        let name = match &self.name {
            Some(name) => name.clone(),
            None => host_name()?,
        };
        let provider = match &self.provider {
            Some(provider) => provider.clone(),
            None => "default".parse().map_err(|e| Refusal::bare(format!("`default` is no label: {e}")))?,
        };
        Ok(Application { coordinators, token, name, provider, replace: self.replace })
    }
}

/// The URLs that a token carries.
fn urls_of(token: &Token) -> Result<Vec<Url>, Refusal> {
    token.urls.iter().map(|url| url.parse()).collect::<Result<_, UrlError>>().map_err(|e| {
        Refusal::new(format!("the token says where the coordinator is, and {e}"), "give the URL before the token")
    })
}

fn read_token(argument: &TokenArgument) -> Result<Token, Refusal> {
    let mut text = Zeroizing::new(String::new());
    let read = match argument.0.as_str() {
        "-" => io::stdin().lock().take(MAX_TOKEN).read_to_string(&mut text),
        given => match given.strip_prefix('@') {
            Some(path) => fs::File::open(path).and_then(|file| file.take(MAX_TOKEN).read_to_string(&mut text)),
            None => {
                text.push_str(given);
                Ok(0)
            }
        },
    };
    read.map_err(|e| {
        Refusal::new(
            format!(
                "the token can't be read from {}: {e}",
                if *argument.0 == "-" { "standard input" } else { argument.0.trim_start_matches('@') }
            ),
            "give it as `-` (standard input), as @FILE, or in $MESH_TOKEN",
        )
    })?;
    Token::parse(TokenKind::Join, &text)
        .map_err(|e| Refusal::new(e.to_string(), "`mesh-coord token create` makes a join token; copy it whole"))
}

/// The host's name, made a label.
fn host_name() -> Result<Label, Refusal> {
    let name = nix::unistd::gethostname().unwrap_or_default();
    label(&name.to_string_lossy()).ok_or_else(|| {
        Refusal::new(
            format!("the host's name, {}, gives no name for a runner", name.display()),
            "choose one: --name NAME",
        )
    })
}

/// The first label of a host name, with what no label holds replaced by `-`.
fn label(host: &str) -> Option<Label> {
    let first = host.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let label: String = first.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(63).collect();
    label.trim_matches('-').parse().ok()
}

#[cfg(test)]
mod tests;
