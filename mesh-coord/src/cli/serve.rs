//! `serve` runs the coordinator.

use std::{
    convert::Infallible,
    io::IsTerminal as _,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use axum::Router;
use clap::Args;
use mesh_link::Url;
use mesh_model::record::MemberId;
use mesh_proto::{
    PrivateKey, Range,
    token::{Fingerprint, MAX_URLS},
};
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{SignalKind, signal},
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::{
    console::team::{self, Team},
    numbers,
    store::StoreArgs,
    webhook::WebhookArgs,
    wrong_usage,
};
use crate::{
    coordinator::{Choice, Coordinator},
    data::{self, DataDirectory},
    exposition::{Disk, Exposition},
    http::{
        Advertised, Api,
        server::{listen, listen_unix, raise_descriptors, serve, serve_unix},
    },
    metrics::Metrics,
    peers::{Card, Peers},
    random,
    relay_secrets::RelaySecrets,
    store::{EtcdStore, Health, Measured, Seat, Seated, SqliteStore, Store, StoreError},
    telemetry::{Mode, Telemetry},
    tls::{Identity, host_name},
    watch,
    webhook::Webhook,
};

/// How long the end may wait for what is noted last.
const LAST_NOTES: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// The data directory, which nothing else uses [default: /var/lib/mesh-coord, or for an ordinary user
    /// ~/.local/state/mesh-coord]
    #[arg(long, value_name = "DIR", env = "MESH_COORD_DATA", hide_env_values = true)]
    data: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
    /// The address to listen on; `[::]` includes IPv4
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:7443", value_parser = numbers::listen)]
    listen: SocketAddr,
    /// The range of overlay addresses, chosen at the first start [default: 100.112.0.0/12]
    #[arg(long, value_name = "CIDR", value_parser = numbers::range)]
    range: Option<Range>,
    /// The MTU of every mesh0, in bytes [default: 1344]
    #[arg(long, value_name = "BYTES", value_parser = numbers::mtu)]
    mtu: Option<u16>,
    /// Additional names or addresses for its certificate
    #[arg(long = "name", value_name = "HOST", num_args = 1..)]
    names: Vec<String>,
    /// The URL at which runners reach it, https://HOST:PORT. New tokens carry it, so that `mesh-node join TOKEN` is enough
    #[arg(long, value_name = "URL", env = "MESH_COORD_ADVERTISE", value_delimiter = ',', hide_env_values = true)]
    advertise: Vec<Url>,
    /// Serve /metrics, /healthz and /readyz by plain HTTP at this address too, without a token: best one of
    /// loopback
    #[arg(long, value_name = "ADDR:PORT", value_parser = numbers::metrics)]
    metrics: Option<SocketAddr>,
    /// What runners report of connections, for `top`, `refused`, metrics and previews
    #[arg(long, value_name = "WHAT", default_value = "full")]
    telemetry: Mode,
    #[command(flatten)]
    webhook: WebhookArgs,
    #[command(flatten)]
    team: Team,
}

pub(super) async fn run(args: Serve) -> Result<()> {
    if args.advertise.len() > MAX_URLS {
        wrong_usage(&format!("--advertise: at most {MAX_URLS} URLs"));
    }
    start_log();
    mesh_process::secrets::forbid_dumps();
    let data = DataDirectory::open(&args.data.unwrap_or_else(data::default_directory))?;
    let names = team::names(&args.names, &args.advertise);
    let identity = Identity::open(&data, args.names)?;
    let enrol_key = enrol_key(&data)?;
    let relay_secrets = RelaySecrets::open(&data)?;
    let webhook = args.webhook.open(data.file(data::WEBHOOK))?;
    let me = MemberId(random::number()?);
    let card = card(&args.advertise, args.listen, identity.fingerprint);
    let (kept, peers) = match args.store.open().await? {
        // Before it listens, because agents have to find a coordinator that serves.
        Some(etcd) => {
            let kept = join(etcd, me, &card).await?;
            (Kept::Etcd(kept), Peers::new(me, identity.fingerprint, &enrol_key))
        }
        None => (Kept::Here(open_database(&data).await?), Peers::alone(me, card.clone())),
    };
    // Before the database is set up, because a port in use must not cost a first start.
    let listener = listen(args.listen, "--listen")?;
    let console = args.team.open()?;
    let socket = if data.is_read_only() {
        warn!(
            "the disk with --data is read-only: runners and readers are served, commands are refused, and there is no admin socket \
             (use --url and an admin token) until the disk is writable and mesh-coord was restarted"
        );
        None
    } else {
        Some(listen_unix(&data.socket())?)
    };
    let metrics_listener = args.metrics.map(listen_for_metrics).transpose()?;
    let (metrics, health) = (Arc::<Metrics>::default(), Arc::new(health(&data)));
    let choice = Choice { range: args.range, mtu: args.mtu };
    let measured = (Arc::clone(&health), Arc::clone(&metrics));
    let database = matches!(kept, Kept::Here(_)).then(|| data.file(data::DATABASE));
    let (coordinator, writer, seat) = match kept {
        Kept::Here(store) => {
            let (coordinator, writer) = start(store, measured, choice).await?;
            (coordinator, writer, None)
        }
        Kept::Etcd((store, seat, seated)) => {
            let (coordinator, writer) = start(store, measured, choice).await?;
            (coordinator, writer, Some((seat, seated)))
        }
    };
    let coordinator = coordinator.with_metrics(metrics).with_telemetry(Telemetry::new(args.telemetry));
    let coordinator = coordinator.with_peers(Arc::new(peers));
    let coordinator = coordinator.with_secrets(relay_secrets).await?;
    let mut told = tokio::spawn(tell(webhook, coordinator.clone()));
    let exposition = Exposition::new(coordinator.clone(), Some(Disk { health, database }));
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be waited for")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be waited for")?;
    // Makes a log or file that has reached its limit (setrlimit(2)) an ordinary error.
    let _limit = signal(SignalKind::from_raw(nix::libc::SIGXFSZ));
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be waited for")?;
    let mut silence = tokio::spawn(watch::silence::watch(coordinator.clone()));
    let mut tasks = JoinSet::new();
    tasks.spawn(watch::calls::watch(coordinator.clone()));
    let last = coordinator.clone();
    let mut left = None;
    if let Some((seat, seated)) = seat {
        // Before the first command, since others may have been running for longer.
        watch::members::take_in(&coordinator, &seat, seated).await;
        tasks.spawn(watch::contact::watch(coordinator.clone()));
        tasks.spawn(watch::members::follow(coordinator.clone(), seat.clone(), card));
        left = Some(seat);
    }
    let address = listener.local_addr().context("the listener has no address")?;
    let advertised = Advertised { urls: args.advertise, guess: guess(address) };
    let api = Api::new(coordinator, identity.fingerprint, enrol_key).advertising(advertised);
    let router = api.observed_by(exposition.clone()).router();
    info!(%address, fingerprint = %identity.fingerprint, socket = %data.socket().display(), "ready");
    let mut writer = writer;
    tokio::select! {
        never = serve(listener, identity.certificate.subscribe(), router.clone(), raise_descriptors()) => match never {},
        never = serve_socket(socket, router.clone()) => match never {},
        never = serve_console(console, &identity, router, names) => match never? {},
        never = serve_metrics(metrics_listener, exposition) => match never {},
        ended = &mut writer => {
            ended.context("the coordinator's writer failed")?;
            anyhow::bail!("the coordinator's writer ended: its log says why");
        }
        ended = &mut silence => {
            ended.context("the watch for silent runners failed")?;
            anyhow::bail!("the coordinator's writer ended: its log says why");
        }
        ended = &mut told => {
            ended.context("the webhook failed")?;
            anyhow::bail!("the coordinator's writer ended: its log says why");
        }
        never = identity.follow(&mut hangup) => match never {},
        _ = terminate.recv() => info!("SIGTERM: ending"),
        _ = interrupt.recv() => info!("SIGINT: ending"),
    }
    // Confirmed commits are on the disk already, and a pending one is done or not.
    silence.abort();
    told.abort();
    tasks.shutdown().await;
    if let Ok(Err(error)) = timeout(LAST_NOTES, watch::calls::note(&last, last.now())).await {
        warn!(%error, "what services called in this hour could not be noted");
    }
    writer.abort();
    let _ = writer.await;
    if let Some(seat) = left {
        seat.leave().await;
    }
    let _ = std::fs::remove_file(data.socket());
    Ok(())
}

/// Runs the webhook, if there is one, until the coordinator's writer has ended.
async fn tell(webhook: Option<Webhook>, coordinator: Coordinator) {
    match webhook {
        Some(webhook) => drop(webhook.run(coordinator).await),
        None => std::future::pending().await,
    }
}

/// Where the records are.
enum Kept {
    /// In the data directory.
    Here(SqliteStore),
    /// In an etcd, with a place among the coordinators there, and who they are.
    Etcd((EtcdStore, Seat, Vec<Seated>)),
}

async fn open_database(data: &DataDirectory) -> Result<SqliteStore> {
    let database = data.file(data::DATABASE);
    anyhow::ensure!(
        database.exists() || !data.file(data::MIGRATED).exists(),
        "the records of {} were moved to an etcd: give --store, or move {} back to {} to begin with what was there then",
        database.display(),
        data::MIGRATED,
        data::DATABASE
    );
    let store = SqliteStore::open(&database).await;
    store.map_err(|error| anyhow::anyhow!("{}: {}", database.display(), error.with_hint()))
}

/// What this coordinator tells others of itself.
fn card(urls: &[Url], listen: SocketAddr, fingerprint: Fingerprint) -> Card {
    let urls = urls.iter().map(ToString::to_string).collect();
    let reach = own_addresses(listen).into_iter().take(MAX_URLS).collect();
    Card::new(host_name().unwrap_or_default(), urls, reach, fingerprint)
}

/// The URLs of this machine's own addresses, where other machines may reach it.
fn own_addresses(listen: SocketAddr) -> Vec<String> {
    let url = |ip: IpAddr| format!("https://{}", SocketAddr::new(ip, listen.port()));
    if !listen.ip().is_unspecified() {
        return vec![url(listen.ip())];
    }
    let of = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    let is_of_use = |ip: &IpAddr| match ip {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    };
    nix::ifaddrs::getifaddrs().into_iter().flatten().filter_map(of).filter(is_of_use).map(url).collect()
}

/// The same etcd, with a place among the coordinators there, which have the same keys.
async fn join(store: EtcdStore, me: MemberId, card: &Card) -> Result<(EtcdStore, Seat, Vec<Seated>)> {
    let joined = store.join(me, serde_json::to_vec(card)?).await;
    let (store, seat, seated) = joined.map_err(|error| anyhow::anyhow!(error.with_hint()))?;
    let others = watch::members::read(seated.clone());
    if let Some((.., other)) = others.iter().find(|(.., other)| other.fingerprint != card.fingerprint) {
        seat.leave().await;
        anyhow::bail!(
            "the coordinator on {} has other keys, so agents would not know this one: `mesh-coord keys export` there, and \
             `mesh-coord keys import` here into an empty data directory",
            other.host.chars().filter(|c| !c.is_control()).take(200).collect::<String>()
        );
    }
    Ok((store, seat, seated))
}

async fn start(
    store: impl Store,
    (health, metrics): (Arc<Health>, Arc<Metrics>),
    choice: Choice,
) -> Result<(Coordinator, JoinHandle<()>)> {
    Coordinator::start(Measured { store, health, metrics }, choice).await
}

async fn serve_socket(socket: Option<UnixListener>, router: Router) -> Infallible {
    match socket {
        Some(socket) => serve_unix(socket, router).await,
        None => std::future::pending().await,
    }
}

async fn serve_console(
    console: Option<team::Open>,
    identity: &Identity,
    api: Router,
    names: Vec<String>,
) -> Result<Infallible> {
    match console {
        Some(console) => console.serve(identity, api, names).await,
        None => std::future::pending().await,
    }
}

/// Listens for readers of metrics.
fn listen_for_metrics(address: SocketAddr) -> Result<TcpListener> {
    let listener = mesh_metrics::listen(address)
        .map_err(|error| anyhow::anyhow!("cannot listen on {address}: {error}; choose another --metrics"))?;
    let address = listener.local_addr().context("the listener of --metrics has no address")?;
    info!(%address, "metrics are served");
    Ok(listener)
}

async fn serve_metrics(listener: Option<TcpListener>, exposition: Exposition) -> Infallible {
    match listener {
        Some(listener) => mesh_metrics::serve(listener, Arc::new(exposition)).await,
        None => std::future::pending().await,
    }
}

/// What is known of the store before the first commit.
fn health(data: &DataDirectory) -> Health {
    if data.is_read_only() { Health::failing(StoreError::ReadOnly) } else { Health::default() }
}

/// A guess of the coordinator's URL: the address that it listens on, or the machine's name.
fn guess(address: SocketAddr) -> Option<Url> {
    let host = if address.ip().is_unspecified() {
        host_name()?
    } else {
        match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        }
    };
    format!("https://{host}:{}", address.port()).parse().ok()
}

fn enrol_key(data: &DataDirectory) -> Result<PrivateKey> {
    let text = data.secret(data::ENROL_KEY, || {
        let mut bytes = Zeroizing::new([0; 32]);
        random::fill(&mut *bytes)?;
        Ok(Zeroizing::new(PrivateKey::from_bytes(*bytes).to_file_text()))
    })?;
    PrivateKey::from_file_text(&text).with_context(|| {
        format!("{} is damaged: remove it, and another one is made", data.file(data::ENROL_KEY).display())
    })
}

/// Logs to standard error what an operator needs, or what $RUST_LOG says.
pub(super) fn start_log() {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    mesh_process::log::start(colour);
}
