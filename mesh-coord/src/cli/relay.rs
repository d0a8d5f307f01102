//! `relay` runs a relay, or manages relays by its subcommands (see [`relays`]).

use std::{
    fs,
    io::Read as _,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::Args;
use mesh_link::{Proxies, Url, UrlError};
use mesh_process::secrets::{self, TokenArgument};
use mesh_proto::{
    relay::wire::RelayPublic,
    token::{Fingerprint, Token, TokenKind},
};
use mesh_relay::{Limits, Settings};
use tracing::info;
use zeroize::Zeroizing;

use super::{
    numbers,
    relays::{self, Managed},
    serve::start_log,
    wrong_usage,
};
use crate::{
    data::{self, DataDirectory},
    random,
    relay::{Link, Listen, Membership, Shared, Sockets},
    tls::Identity,
};

/// The longest file with a secret or token, in bytes.
const MAX_FILE: u64 = 16 << 10;
/// The variable that may hold the token.
const TOKEN_VARIABLE: &str = "MESH_TOKEN";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Relay {
    #[command(subcommand)]
    command: Option<Managed>,
    /// The coordinator's URL, https://HOST:PORT, if the token doesn't carry it; separate several with commas
    #[arg(value_name = "URL", value_parser = Place::parse)]
    coordinator: Option<Place>,
    /// The relay token: `-` reads it from standard input, @FILE from a file; the default is $MESH_TOKEN. Only needed once
    #[arg(value_name = "TOKEN", value_parser = TokenArgument::parse)]
    token: Option<TokenArgument>,
    /// Run without a coordinator, with the secret in this file, as coturn's static-auth-secret
    #[arg(long, value_name = "@FILE", conflicts_with_all = ["coordinator", "token"])]
    secret: Option<String>,
    /// Where it takes datagrams and TCP connections; `[::]` includes IPv4
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:3478", value_parser = numbers::listen)]
    listen: SocketAddr,
    /// Where it takes TLS connections
    #[arg(long, value_name = "ADDR:PORT", value_parser = numbers::listen)]
    tls: Option<SocketAddr>,
    /// The address at which runners reach it, which its relayed addresses have too; once for each IP family
    #[arg(long, value_name = "ADDR", required = true)]
    public: Vec<IpAddr>,
    /// The directory with its keys, which nothing else uses [default: /var/lib/mesh-coord-relay, or for an ordinary user
    /// ~/.local/state/mesh-coord-relay]
    #[arg(long, value_name = "DIR", env = "MESH_RELAY_DATA", hide_env_values = true)]
    data: Option<PathBuf>,
    /// Threads that take datagrams [default: one a core]
    #[arg(long, value_name = "NUMBER")]
    threads: Option<u16>,
    /// The most runners that have an address at it at once
    #[arg(long, value_name = "NUMBER", default_value_t = 16_384)]
    allocations: u16,
}

/// The first argument: URLs, or the token if nothing follows it.
#[derive(Debug, Clone)]
enum Place {
    Urls(Vec<Url>),
    Token(TokenArgument),
}

impl Place {
    fn parse(text: &str) -> Result<Self, UrlError> {
        if text.starts_with('@') || text == "-" || !text.contains([':', '/']) {
            return Ok(Self::Token(TokenArgument::of(text)));
        }
        text.split(',').map(str::parse).collect::<Result<_, _>>().map(Self::Urls)
    }
}

pub(super) async fn run(mut args: Relay) -> Result<()> {
    if let Some(command) = args.command.take() {
        return relays::run(command).await;
    }
    check(&args);
    start_log();
    // Taken out even if it isn't needed: programs of the same user can read a process's environment.
    let variable = secrets::take_variable(TOKEN_VARIABLE);
    secrets::forbid_dumps();
    let data = DataDirectory::open(&args.data.clone().unwrap_or_else(data::default_relay_directory))?;
    let identity = Identity::open(&data, Vec::new())?;
    let public = public(&args, identity.fingerprint);
    let proxies = Proxies::of_environment();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or(cores, usize::from).clamp(1, 256);
    // Before the token is spent: an address that is in use is said first.
    let sockets = Sockets::bind(&Listen { plain: args.listen, tls: args.tls, threads })?;
    let (secret, membership) = match &args.secret {
        Some(argument) => (file_of(argument)?.parse().with_context(|| format!("{argument} holds no secret"))?, None),
        None => {
            let membership = membership(&args, variable, &data, &public, &proxies).await?;
            (membership.secret()?, Some(membership))
        }
    };
    let mut nonce_key = [0; 32];
    random::fill(&mut nonce_key)?;
    let limits = Limits { allocations: args.allocations.into(), ..Limits::default() };
    let relay = mesh_relay::Relay::new(Settings { secret, public: args.public, limits, nonce_key });
    let shared = Arc::new(Shared::new(relay));
    if let Some(membership) = &membership {
        shared.revoke(membership.revoked().iter().map(|revoked| (revoked.pseudonym, revoked.until)));
    }
    info!(listen = %args.listen, tls = ?args.tls, fingerprint = %identity.fingerprint, threads, "ready");
    let link = membership.map(|membership| Link { shared: Arc::clone(&shared), data, membership, public, proxies });
    sockets.serve(shared, identity, link).await
}

/// What it is in the mesh: what it became before, or what a token makes it.
async fn membership(
    args: &Relay,
    variable: Option<Zeroizing<String>>,
    data: &DataDirectory,
    public: &RelayPublic,
    proxies: &Proxies,
) -> Result<Membership> {
    if let Some(known) = Membership::load(data)? {
        return Ok(known);
    }
    let (urls, token) = match (&args.coordinator, &args.token) {
        (Some(Place::Urls(urls)), token) => (urls.clone(), token.clone()),
        (Some(Place::Token(token)), None) => (Vec::new(), Some(token.clone())),
        (Some(Place::Token(_)), Some(_)) => wrong_usage("a token comes last, behind the coordinator's URL"),
        (None, token) => (Vec::new(), token.clone()),
    };
    let token = token.or_else(|| variable.map(Into::into)).ok_or_else(|| {
        anyhow!("a new relay needs a token: make one with `mesh-coord token create --relay NAME` at the coordinator")
    })?;
    let text = match token.expose() {
        "-" => read(std::io::stdin(), "standard input")?,
        file if file.starts_with('@') => file_of(file)?,
        text => Zeroizing::new(text.to_owned()),
    };
    let token = Token::parse(TokenKind::Relay, &text)?;
    let urls = if urls.is_empty() { token.urls.iter().map(|url| url.parse()).collect::<Result<_, _>>()? } else { urls };
    ensure!(!urls.is_empty(), "the token carries no address of the coordinator: write its URL before it");
    Membership::enrol(data, urls, &token, public, proxies).await
}

/// Where runners reach it.
fn public(args: &Relay, fingerprint: Fingerprint) -> RelayPublic {
    let places = |port: u16| -> Vec<_> {
        args.public.iter().filter_map(|ip| SocketAddr::new(*ip, port).to_string().parse().ok()).collect()
    };
    let (plain, tls) = (places(args.listen.port()), args.tls.map_or_else(Vec::new, |tls| places(tls.port())));
    let fingerprint = args.tls.map(|_| fingerprint);
    RelayPublic { udp: plain.clone(), tcp: plain, tls, fingerprint }
}

/// Refuses what the definitions can't express.
fn check(args: &Relay) {
    let twice = args.public.len() > 2 || matches!(&args.public[..], [a, b] if a.is_ipv4() == b.is_ipv4());
    if twice {
        wrong_usage("--public: one address for each IP family");
    }
    if let Some(ip) = args.public.iter().find(|ip| ip.is_unspecified() || ip.is_multicast()) {
        wrong_usage(&format!("--public: clients can't reach {ip}"));
    }
}

/// What a file of an argument `@FILE` holds. Secrets aren't taken as arguments, which every user of the machine could
/// read.
fn file_of(argument: &str) -> Result<Zeroizing<String>> {
    let Some(file) = argument.strip_prefix('@') else {
        wrong_usage("--secret: write @ and the name of a file, since every user of the machine can read arguments");
    };
    read(fs::File::open(file).with_context(|| format!("{file} cannot be read"))?, file)
}

fn read(from: impl std::io::Read, shown: &str) -> Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    from.take(MAX_FILE).read_to_string(&mut text).with_context(|| format!("{shown} cannot be read"))?;
    Ok(text)
}
