//! `mesh-node join`: makes this machine a runner, if it isn't one, and runs its agent.

use std::{
    fs,
    io::{self, Read as _},
    net::SocketAddr,
    process::ExitCode,
};

use clap::Args;
use mesh_link::Url;
use mesh_process::secrets;
use mesh_proto::{
    Label,
    message::{Refusal, Switches},
    token::{Token, TokenKind},
};
use zeroize::Zeroizing;

use super::{
    Context,
    output::{self, Failure},
    runtime,
};
use crate::agent::{self, Application, Identity, Purpose};

/// The longest token file that is read, in octets.
const MAX_TOKEN: u64 = 16 << 10;
/// The variable that may hold the token: arguments can be seen by every user of the machine.
const TOKEN_VARIABLE: &str = "MESH_TOKEN";

#[derive(Debug, Args)]
pub(super) struct Join {
    /// The coordinator: https://HOST:PORT. Needed the first time only
    #[arg(value_name = "URL")]
    coordinator: Option<Url>,
    /// The join token; `-`: from standard input; @FILE: from a file; by default from $MESH_TOKEN
    #[arg(value_name = "TOKEN", value_parser = TokenArgument::parse)]
    token: Option<TokenArgument>,
    /// The runner's name; by default the host's
    #[arg(long, value_name = "NAME")]
    name: Option<Label>,
    /// Whose machine this is, for people to read; by default `default`
    #[arg(long, value_name = "PROVIDER")]
    provider: Option<Label>,
    /// The UDP port; 0: any. Remembered; the first time 51820
    #[arg(long, value_name = "PORT")]
    listen: Option<u16>,
    /// Where other runners reach this one, instead of its interfaces' addresses; `auto`: at those again. Remembered
    #[arg(long, value_name = "ADDR:PORT", value_parser = Endpoint::parse)]
    endpoint: Vec<Endpoint>,
    /// Take the name over from the runner that has it
    #[arg(long)]
    replace: bool,
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

#[derive(Debug, Clone, Copy)]
enum Endpoint {
    Auto,
    At(SocketAddr),
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
            secrets::forbid_dumps()
        } else {
            secrets::forbid_core_files()
        }
        let state = &context.state;
        let lock = state.take()?;
        let mut identity = match Identity::load(state)? {
            Some(identity) => identity,
            None => Identity::new()?,
        };
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
        let offloads = Switches { tun_gso: !self.no_tun_gso, udp_gso: !self.no_udp_gso, udp_gro: !self.no_udp_gro };
        let runtime = runtime()?;
        let ended = runtime.block_on(async {
            if identity.enrolment.is_some() {
                self.go_on(&mut identity)?;
                // Nothing but the options given now can be new.
                if let Err(error) = identity.save(state) {
                    tracing::warn!("{}: what was given now holds until the next start", error.error);
                }
            } else {
                let wish = self.application(variable)?;
                agent::enrol(state, &mut identity, &wish).await?;
            }
            agent::run(state.clone(), lock, identity, offloads, Purpose::Run).await
        });
        // What still blocks is not waited for: nothing is half done that the next start does not mend.
        runtime.shutdown_background();
        ended?;
        Ok(ExitCode::SUCCESS)
    }

    /// A runner that has joined goes on; the coordinator may have moved, but not be another one.
    fn go_on(&self, identity: &mut Identity) -> Result<(), Refusal> {
        let Some(enrolment) = &mut identity.enrolment else { return Ok(()) };
        // A token that is only in the environment may be long out of date.
        if let Some(argument) = &self.token {
            let token = read_token(argument)?;
            if token.fingerprint != enrolment.fingerprint {
                return Err(Refusal::new(
                    format!(
                        "this machine has joined another coordinator, at {}, as {}",
                        enrolment.coordinator, enrolment.name
                    ),
                    "to join this one as well run a second agent with a --state DIR and a --listen PORT of its own; to move, \
                     leave that one first: `mesh-node leave`",
                ));
            }
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
        if let Some(url) = &self.coordinator {
            enrolment.coordinator = url.clone();
        }
        Ok(())
    }

    fn application(&self, variable: Option<Zeroizing<String>>) -> Result<Application, Refusal> {
        let how = "mesh-node join https://HOST:7443 TOKEN; `mesh-coord token create` makes one";
        let coordinator = self
            .coordinator
            .clone()
            .ok_or_else(|| Refusal::new("this machine has not joined a mesh, and there is no URL", how))?;
        let argument = match (&self.token, variable) {
            (Some(argument), _) => argument.clone(),
            (None, Some(token)) => TokenArgument(token),
            (None, None) => return Err(Refusal::new("there is no token, and none in $MESH_TOKEN", how)),
        };
        let token = read_token(&argument)?;
        let name = match &self.name {
            Some(name) => name.clone(),
            None => host_name()?,
        };
        let provider = match &self.provider {
            Some(provider) => provider.clone(),
            None => "default".parse().map_err(|e| Refusal::bare(format!("`default` is no label: {e}")))?,
        };
        Ok(Application { coordinator, token, name, provider, replace: self.replace })
    }
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
            "give it as `-` (standard input), @FILE, or in $MESH_TOKEN",
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
mod tests {
    use super::*;

    #[test]
    fn a_host_name_becomes_a_label() {
        for (host, name) in [
            ("web-1.example.org", Some("web-1")),
            ("My_Machine", Some("my-machine")),
            ("_x_", Some("x")),
            ("été", Some("t")),
            ("localhost", None),
            ("", None),
            ("---", None),
        ] {
            assert_eq!(label(host).as_deref(), name, "{host}");
        }
        assert_eq!(label(&"x".repeat(80)).unwrap().len(), 63);
    }

    #[test]
    fn who_has_joined_keeps_its_provider_and_is_told_so() {
        use mesh_proto::{
            RunnerId, Secret,
            token::{Credential, Fingerprint},
        };
        let label = |text: &str| text.parse::<Label>().unwrap();
        let go_on = |given: Option<&str>, known: Option<&str>| {
            let mut identity = Identity::new().unwrap();
            identity.enrolment = Some(agent::Enrolment {
                runner: RunnerId(7),
                name: label("a"),
                provider: known.map(label),
                credential: Credential { runner: RunnerId(7), secret: Secret::from_bytes([3; 32]) },
                coordinator: "https://c:7443".parse().unwrap(),
                fingerprint: Fingerprint([1; 32]),
            });
            let join = Join {
                coordinator: None,
                token: None,
                name: None,
                provider: given.map(label),
                listen: None,
                endpoint: vec![],
                replace: false,
                no_tun_gso: false,
                no_udp_gso: false,
                no_udp_gro: false,
            };
            join.go_on(&mut identity)
        };
        let error = go_on(Some("ovh"), Some("aws")).unwrap_err();
        assert!(error.error.contains("the provider aws, and not with ovh"), "{error}");
        for (given, known) in [(Some("aws"), Some("aws")), (None, Some("aws")), (Some("ovh"), None)] {
            go_on(given, known).unwrap();
        }
    }

    #[test]
    fn what_is_wrong_with_a_token_is_said_without_the_token() {
        let error = read_token(&TokenArgument::parse("hunter2").unwrap()).unwrap_err();
        assert!(error.error.contains("mesh1.") && !error.error.contains("hunter2"), "{error}");
        let error = read_token(&TokenArgument::parse("@/nonexistent/token").unwrap()).unwrap_err();
        assert!(error.error.contains("can't be read"), "{error}");
    }
}
