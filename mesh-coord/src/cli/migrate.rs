//! `migrate` moves the records from a data directory into an etcd, or back.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use mesh_model::{Change, Record, RunningSeconds, State};
use mesh_proto::Revision;
use serde::Serialize;

use super::{
    output::{print, print_versioned},
    store::{EtcdArgs, at},
};
use crate::{
    data::{self, DataDirectory},
    random,
    store::{Draft, EtcdStore, Holder, Loaded, Nonce, Place, Release, SqliteStore, Store, StoreError},
};

#[derive(Debug, Args)]
pub(super) struct Migrate {
    /// Where the records are: a data directory, or `etcd://HOST[:PORT][,HOST[:PORT]...]/PREFIX`. Its coordinators are stopped
    #[arg(long, value_name = "DIR or etcd://...")]
    from: String,
    /// Where they go, which holds no records yet
    #[arg(long, value_name = "DIR or etcd://...")]
    to: String,
    #[command(flatten)]
    keys: EtcdArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was moved.
#[derive(Serialize)]
struct Done<'a> {
    from: &'a str,
    to: &'a str,
    records: usize,
}

pub(super) async fn run(args: Migrate) -> Result<()> {
    let place = |text: &str| text.starts_with("etcd://").then(|| text.parse::<Place>()).transpose();
    let records = match (place(&args.from)?, place(&args.to)?) {
        (None, Some(to)) => into_etcd(Path::new(&args.from), &to, &args.keys).await?,
        (Some(from), None) => from_etcd(&from, Path::new(&args.to), &args.keys).await?,
        _ => bail!("one of --from and --to is a data directory, and the other one is etcd://…"),
    };
    if args.json {
        return print_versioned(&Done { from: &args.from, to: &args.to, records });
    }
    let next = if args.to.starts_with("etcd://") { format!("serve --store {}", args.to) } else { "serve".to_owned() };
    print(&format!("{records} records are in {} now; next: `mesh-coord {next}`", args.to))
}

async fn into_etcd(directory: &Path, place: &Place, keys: &EtcdArgs) -> Result<usize> {
    let database = existing(directory)?;
    let data = DataDirectory::open(directory)?;
    let source = SqliteStore::open(&database).await.map_err(|error| in_file(&database, &error))?;
    let loaded = source.load().await.map_err(|error| in_file(&database, &error))?;
    let (target, release) = sole(place, keys).await?;
    let there = target.load().await.map_err(|error| at(place, &error))?;
    ensure!(
        there.head.revision == Revision(0),
        "{place} holds records already, and nothing has changed: choose another prefix, or remove them with etcdctl"
    );
    let number = copy(loaded, &target).await.map_err(|error| error.context(place.to_string()))?;
    release.now().await;
    // Closes the file.
    drop(source);
    fs::rename(&database, data.file(data::MIGRATED))
        .with_context(|| format!("the records are moved, but {} cannot be renamed", database.display()))?;
    Ok(number)
}

async fn from_etcd(place: &Place, directory: &Path, keys: &EtcdArgs) -> Result<usize> {
    let data = DataDirectory::open(directory)?;
    let database = data.file(data::DATABASE);
    ensure!(
        !database.exists(),
        "{} holds records already, and nothing has changed: choose another directory, or move it away",
        directory.display()
    );
    let (source, release) = sole(place, keys).await?;
    let loaded = source.load().await.map_err(|error| at(place, &error))?;
    ensure!(loaded.head.revision > Revision(0), "{place} holds no records");
    // It gets its name when it is whole.
    let new = data.file(&format!("{}.new", data::DATABASE));
    let _ = fs::remove_file(&new);
    let target = SqliteStore::open(&new).await.map_err(|error| in_file(&new, &error))?;
    let number = copy(loaded, &target).await.map_err(|error| error.context(new.display().to_string()))?;
    drop(target);
    source.retire().await.map_err(|error| at(place, &error))?;
    release.now().await;
    fs::rename(&new, &database).with_context(|| format!("{} cannot be renamed", new.display()))?;
    Ok(number)
}

/// The database of a data directory that has one.
fn existing(directory: &Path) -> Result<PathBuf> {
    let database = directory.join(data::DATABASE);
    ensure!(database.exists(), "{} holds no coordinator's database", directory.display());
    Ok(database)
}

/// An etcd that no coordinator uses now.
async fn sole(place: &Place, keys: &EtcdArgs) -> Result<(EtcdStore, Release)> {
    let holder =
        Holder { host: "mesh-coord migrate".to_owned(), urls: vec![], version: env!("CARGO_PKG_VERSION").to_owned() };
    keys.open(place).await?.into_sole(&holder).await.map_err(|error| at(place, &error))
}

/// Writes all records into an empty store, as another history: agents keep their identities, and get their maps anew.
async fn copy(loaded: Loaded, target: &impl Store) -> Result<usize> {
    let Loaded { head, mut records } = loaded;
    // Streams don't move, and all maps begin anew.
    records.retain(|record| !matches!(record, Record::Session(_) | Record::Owed(_)));
    let state = State::load(head.revision, records.clone())?;
    let running = RunningSeconds(head.running.0.max(state.running().0));
    let number = records.len();
    let epoch = random::epoch()?;
    let draft = |changes| {
        let nonce = Nonce(random::number()?);
        Ok::<_, anyhow::Error>(Draft { changes, epoch, running, nonce, right: None })
    };
    let described = |error: StoreError| anyhow::anyhow!(error.with_hint());
    let changes = records.into_iter().map(Change::Put).collect();
    let revision = target.commit(Revision(0), draft(changes)?).await.map_err(described)?;
    // So many come in parts, which the next commit puts together.
    target.commit(revision, draft(vec![])?).await.map_err(described)?;
    let there = target.load().await.map_err(described)?;
    ensure!(there.records.len() == number, "{} of {number} records have arrived", there.records.len());
    Ok(number)
}

fn in_file(database: &Path, error: &StoreError) -> anyhow::Error {
    anyhow::anyhow!("{}: {}", database.display(), error.with_hint())
}
