//! Reads all records, page by page, at one of etcd's revisions.

use mesh_model::{Change, Record, RunningSeconds, record::Key};
use mesh_proto::Revision;
use std::collections::BTreeMap;

use super::{
    client::Trouble,
    commit::known,
    endpoints::Endpoints,
    layout::{Layout, Span, Texts},
    position::Known,
    wire::{KeyValue, RANGE, RangeRequest, RangeResponse},
};
use crate::store::{Head, Loaded, StoreError};

/// How many keys a page has. Each page costs etcd a count of all that follow it.
const PAGE: i64 = 10_000;
/// How often a load is begun anew because etcd has forgotten its revision meanwhile.
const ATTEMPTS: usize = 3;

/// Reads the head, and etcd's revision then.
pub(super) async fn head(endpoints: &Endpoints, layout: &Layout) -> Result<(Option<Known>, i64), Trouble> {
    let request = RangeRequest { key: layout.head(), ..RangeRequest::default() };
    let answer: RangeResponse = endpoints.read(RANGE, request).await?;
    let at = answer.header.map_or(0, |header| header.revision);
    let head = answer.kvs.first().map(|kv| known(layout, kv)).transpose();
    head.map(|head| (head, at)).map_err(Trouble::Refused)
}

/// Reads all keys of a span, as of a revision of etcd's.
pub(super) async fn span(endpoints: &Endpoints, (first, end): Span, at: i64) -> Result<Vec<KeyValue>, Trouble> {
    let (mut all, mut key) = (Vec::new(), first);
    loop {
        let request = RangeRequest { key, range_end: end.clone(), limit: PAGE, revision: at };
        let RangeResponse { kvs, more, .. } = endpoints.read(RANGE, request).await?;
        all.extend(kvs);
        match all.last() {
            Some(last) if more => key = [last.key.as_slice(), &[0]].concat(),
            _ => return Ok(all),
        }
    }
}

/// Reads the parts of a commit, as of etcd's revision `at`.
pub(super) async fn parts(
    endpoints: &Endpoints,
    layout: &Layout,
    known: &Known,
    at: i64,
) -> Result<Vec<Texts>, Trouble> {
    let damaged = |what: String| {
        Trouble::Refused(StoreError::Damaged(format!("a part of revision {} {what}", known.top.revision)))
    };
    let kvs = span(endpoints, layout.parts_of(&known.top), at).await?;
    if kvs.len() != usize::try_from(known.top.parts).unwrap_or(usize::MAX) {
        return Err(damaged("is missing".to_owned()));
    }
    kvs.iter()
        .map(|kv| serde_json::from_slice(&kv.value).map_err(|e| damaged(format!("cannot be read: {e}"))))
        .collect()
}

/// All records with their head, of which the place in etcd's history is told too.
pub(super) async fn load(endpoints: &Endpoints, layout: &Layout) -> Result<(Loaded, Option<Known>), StoreError> {
    let mut attempts = 1;
    loop {
        match load_once(endpoints, layout).await {
            Err(Trouble::Compacted) if attempts < ATTEMPTS => attempts += 1,
            loaded => return loaded.map_err(Trouble::of_read),
        }
    }
}

async fn load_once(endpoints: &Endpoints, layout: &Layout) -> Result<(Loaded, Option<Known>), Trouble> {
    let (head, at) = head(endpoints, layout).await?;
    let kvs = span(endpoints, layout.records(), at).await?;
    let Some(known) = head else {
        let head = Head { revision: Revision(0), epoch: None, running: RunningSeconds(0) };
        let request = RangeRequest { key: layout.retired(), ..RangeRequest::default() };
        let retired: RangeResponse = endpoints.read(RANGE, request).await?;
        return match (retired.kvs.is_empty(), kvs.is_empty()) {
            (true, true) => Ok((Loaded { head, records: vec![] }, None)),
            (true, false) => Err(Trouble::Refused(StoreError::Damaged("there are records and no head".to_owned()))),
            (false, _) => {
                let what = "the records were moved away from here with `mesh-coord migrate`".to_owned();
                Err(Trouble::Refused(StoreError::Failed(what)))
            }
        };
    };
    let records = kvs.iter().map(|kv| layout.record_in(kv)).collect::<Result<BTreeMap<Key, Record>, _>>();
    let mut records = records.map_err(Trouble::Refused)?;
    if known.top.parts > 0 {
        for part in parts(endpoints, layout, &known, at).await? {
            for change in part.changes().map_err(Trouble::Refused)? {
                match change {
                    Change::Put(record) => records.insert(record.key(), record),
                    Change::Delete(key) => records.remove(&key),
                };
            }
        }
    }
    let top = &known.top;
    let head = Head { revision: top.revision, epoch: Some(top.epoch), running: top.running };
    Ok((Loaded { head, records: records.into_values().collect() }, Some(known)))
}
