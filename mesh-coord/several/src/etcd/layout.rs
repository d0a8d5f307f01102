//! How a mesh is kept in etcd, below its prefix:
//!
//! * `head`: the [`Top`], which each commit writes and compares;
//! * `r/KEY`: the records, as the texts that SQLite has;
//! * `part/REVISION-NONCE/NUMBER`: the changes of a commit that is too big for one transaction;
//! * `head.migrated`: the head of records that were moved away;
//! * `member/ID`: a coordinator, by its lease;
//! * `clock`: the running time that a coordinator told last, which outlives its lease;
//! * `active`: who has the records alone, by its lease; without one, that coordinators serve together.

use std::collections::BTreeMap;

use mesh_model::{
    Change, Record, RunningSeconds,
    record::{Key, MemberId},
};
use mesh_proto::{Epoch, Revision};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::wire::{Against, BY_MOD_REVISION, BY_VERSION, Compare, DeleteRequest, KeyValue, Op, PutRequest, Request};
use crate::store::{Nonce, StoreError, record};

/// The version of all this. The first one had one coordinator at a time, and the second one no record of calls.
const FORMAT: i64 = 3;

/// What stands at the top of the records, in `head`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Top {
    format: i64,
    /// The epoch.
    pub epoch: Epoch,
    /// The revision of the last commit.
    pub revision: Revision,
    /// The nonce of the last commit.
    pub nonce: u64,
    /// The nonce of the one before.
    pub previous: u64,
    /// How many records the last commit changed, and a digest of them. A watch that was told of less has lost something:
    /// etcd before 3.5.18 can lose deletes.
    pub changes: usize,
    digest: u64,
    /// How long coordinators had been running.
    pub running: RunningSeconds,
    /// In how many parts the changes are; 0: they are in the records.
    #[serde(default)]
    pub parts: u32,
}

/// The keys and texts that a commit writes, in order; `None`: it deletes.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Texts(pub BTreeMap<String, Option<String>>);

impl Texts {
    /// The texts of these changes.
    ///
    /// # Errors
    /// If one can't be written as a text.
    pub fn of(changes: &[Change]) -> Result<Self, StoreError> {
        let text = |change: &Change| match change {
            Change::Put(record) => serde_json::to_string(record).map(Some),
            Change::Delete(_) => Ok(None),
        };
        let texts = changes.iter().map(|change| Ok((change.key().to_string(), text(change)?)));
        texts.collect::<Result<_, serde_json::Error>>().map(Self).map_err(|error| StoreError::Failed(error.to_string()))
    }

    /// The changes of these texts.
    ///
    /// # Errors
    /// If one is no record.
    pub fn changes(&self) -> Result<Vec<Change>, StoreError> {
        let change = |(key, text): (&String, &Option<String>)| match text {
            Some(text) => record(key, text).map(Change::Put),
            None => {
                let key = key.parse().map_err(|error| StoreError::Damaged(format!("{error}")))?;
                Ok(Change::Delete(key))
            }
        };
        self.0.iter().map(change).collect()
    }

    fn digest(&self) -> u64 {
        let mut hash = Sha256::new();
        for (key, text) in &self.0 {
            let text = text.as_deref();
            for part in [key.as_str(), text.unwrap_or_default()] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
            hash.update([u8::from(text.is_some())]);
        }
        let digest = hash.finalize();
        digest.iter().take(8).fold(0, |digest, byte| digest << 8 | u64::from(*byte))
    }

    /// About how many bytes they take.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.iter().map(size_of).sum()
    }

    /// Cut into pieces with at most so many texts and bytes; `None` if one of them alone is bigger.
    #[must_use]
    pub fn cut(self, most: usize, bytes: usize) -> Option<Vec<Self>> {
        let mut pieces: Vec<(Self, usize)> = vec![];
        for (key, text) in self.0 {
            let size = size_of((&key, &text));
            if size > bytes {
                return None;
            }
            match pieces.last_mut() {
                Some((piece, filled)) if piece.0.len() < most && *filled + size <= bytes => {
                    piece.0.insert(key, text);
                    *filled += size;
                }
                _ => pieces.push((Self(BTreeMap::from([(key, text)])), size)),
            }
        }
        Some(pieces.into_iter().map(|(piece, _)| piece).collect())
    }
}

fn size_of((key, text): (&String, &Option<String>)) -> usize {
    // What comes around them on the wire is less.
    key.len() + text.as_ref().map_or(0, String::len) + 128
}

impl Top {
    /// What the next commit with these texts puts in its place.
    #[must_use]
    pub fn next(
        before: Option<&Self>,
        (epoch, nonce, running): (Epoch, Nonce, RunningSeconds),
        texts: &Texts,
        parts: u32,
    ) -> Self {
        let revision = before.map_or(Revision(0), |before| before.revision).next();
        let previous = before.map_or(0, |before| before.nonce);
        let (changes, digest) = (texts.0.len(), texts.digest());
        Self { format: FORMAT, epoch, revision, nonce: nonce.0, previous, changes, digest, running, parts }
    }

    /// What a head's text says.
    ///
    /// # Errors
    /// If it can't be read, or is of a later version of this program.
    pub fn read(text: &[u8]) -> Result<Self, StoreError> {
        #[derive(Deserialize)]
        struct Format {
            format: i64,
        }
        let damaged = |error: serde_json::Error| StoreError::Damaged(format!("its head cannot be read: {error}"));
        let Format { format } = serde_json::from_slice(text).map_err(damaged)?;
        if format > FORMAT {
            return Err(StoreError::Newer { found: format, known: FORMAT });
        }
        serde_json::from_slice(text).map_err(damaged)
    }

    /// Whether these are the changes of the last commit, all of them.
    #[must_use]
    pub fn is_of(&self, texts: &Texts) -> bool {
        self.changes == texts.0.len() && self.digest == texts.digest()
    }
}

/// The names of the keys.
#[derive(Debug, Clone)]
pub struct Layout {
    /// With a slash at its end.
    prefix: String,
}

/// A key, as it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'a> {
    /// The head.
    Head,
    /// The record with this key.
    Record(&'a str),
    /// The coordinator with this identifier.
    Member(&'a str),
    /// Nothing that is followed.
    Other,
}

/// All keys from the first one on, up to the second one.
pub type Span = (Vec<u8>, Vec<u8>);

impl Layout {
    /// The names below a prefix.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self { prefix: format!("{prefix}/") }
    }

    fn key(&self, rest: &str) -> Vec<u8> {
        format!("{}{rest}", self.prefix).into_bytes()
    }

    /// All keys that begin with this, which ends with a slash.
    fn below(&self, rest: &str) -> Span {
        let first = self.key(rest);
        let mut end = first.clone();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        (first, end)
    }

    /// All keys.
    #[must_use]
    pub fn everything(&self) -> Span {
        self.below("")
    }

    /// The head's key.
    #[must_use]
    pub fn head(&self) -> Vec<u8> {
        self.key("head")
    }

    /// The head of records that were moved away.
    #[must_use]
    pub fn retired(&self) -> Vec<u8> {
        self.key("head.migrated")
    }

    /// The key of the record with this key.
    #[must_use]
    pub fn record(&self, key: &str) -> Vec<u8> {
        self.key(&format!("r/{key}"))
    }

    /// The keys of all records.
    #[must_use]
    pub fn records(&self) -> Span {
        self.below("r/")
    }

    /// The key of a part of a commit.
    #[must_use]
    pub fn part(&self, top: &Top, number: usize) -> Vec<u8> {
        self.key(&format!("part/{:016x}-{:016x}/{number:06}", top.revision.0, top.nonce))
    }

    /// The parts of one commit.
    #[must_use]
    pub fn parts_of(&self, top: &Top) -> Span {
        self.below(&format!("part/{:016x}-{:016x}/", top.revision.0, top.nonce))
    }

    /// The parts of all commits up to this revision, also of those that were not made after all.
    #[must_use]
    pub fn parts_until(&self, revision: Revision) -> Span {
        (self.key("part/"), self.key(&format!("part/{:016x}", revision.next().0)))
    }

    /// The key of a coordinator's place.
    #[must_use]
    pub fn member(&self, id: MemberId) -> Vec<u8> {
        self.key(&format!("member/{id}"))
    }

    /// The keys of all coordinators' places.
    #[must_use]
    pub fn members(&self) -> Span {
        self.below("member/")
    }

    /// The key of the running time.
    #[must_use]
    pub fn clock(&self) -> Vec<u8> {
        self.key("clock")
    }

    /// Reads the running time, where it was asked for.
    #[must_use]
    pub fn clock_from(&self, kv: &KeyValue) -> Option<RunningSeconds> {
        let text = std::str::from_utf8(&kv.value).ok().filter(|_| kv.key == self.clock())?;
        text.parse().ok().map(RunningSeconds)
    }

    /// Writes the running time.
    #[must_use]
    pub fn put_clock(&self, running: RunningSeconds) -> Op {
        put(self.clock(), running.0.to_string().into_bytes(), 0)
    }

    /// The key of who has the records alone.
    #[must_use]
    pub fn active(&self) -> Vec<u8> {
        self.key("active")
    }

    /// What a key names.
    #[must_use]
    pub fn named<'a>(&self, key: &'a [u8]) -> Named<'a> {
        let Ok(key) = std::str::from_utf8(key) else { return Named::Other };
        match key.strip_prefix(&self.prefix).map(|rest| rest.split_once('/').unwrap_or((rest, ""))) {
            Some(("head", "")) => Named::Head,
            Some(("r", key)) => Named::Record(key),
            Some(("member", id)) => Named::Member(id),
            _ => Named::Other,
        }
    }

    /// The steps that write these texts.
    #[must_use]
    pub fn writes(&self, texts: &Texts) -> Vec<Op> {
        let write = |(key, text): (&String, &Option<String>)| match text {
            Some(text) => put(self.record(key), text.clone().into_bytes(), 0),
            None => delete((self.record(key), vec![])),
        };
        texts.0.iter().map(write).collect()
    }

    /// A record, as it was read.
    ///
    /// # Errors
    /// If it is none.
    pub fn record_in(&self, kv: &KeyValue) -> Result<(Key, Record), StoreError> {
        let text = std::str::from_utf8(&kv.value);
        match (self.named(&kv.key), text) {
            (Named::Record(key), Ok(text)) => record(key, text).map(|record| (record.key(), record)),
            _ => {
                let key = String::from_utf8_lossy(&kv.key);
                Err(StoreError::Damaged(format!("the record `{}` is no text", key.escape_debug())))
            }
        }
    }
}

/// That the key has exactly this.
#[must_use]
pub const fn compare(key: Vec<u8>, target: i32, against: Against) -> Compare {
    Compare { result: 0, target, key, against: Some(against), range_end: vec![] }
}

/// That the key is as it was found: last written at this revision of etcd's, or not there.
#[must_use]
pub const fn is_unchanged(key: Vec<u8>, found: Option<i64>) -> Compare {
    let (target, against) = match found {
        Some(at) => (BY_MOD_REVISION, Against::ModRevision(at)),
        None => (BY_VERSION, Against::Version(0)),
    };
    compare(key, target, against)
}

/// The step that writes a key, under a lease unless it is 0.
#[must_use]
pub const fn put(key: Vec<u8>, value: Vec<u8>, lease: i64) -> Op {
    Op { request: Some(Request::Put(PutRequest { key, value, lease })) }
}

/// The step that deletes keys.
#[must_use]
pub fn delete((key, range_end): Span) -> Op {
    Op { request: Some(Request::Delete(DeleteRequest { key, range_end })) }
}
