//! A model of etcd: keys with their revisions, transactions with conditions, leases, the history for watches, and its
//! compaction.

use std::{collections::BTreeMap, time::Duration};

use mesh_several::etcd::wire::{
    Against, Compare, Event, Header, KeyValue, Op, OpAnswer, RangeRequest, RangeResponse, Request, TxnRequest,
    TxnResponse,
};

/// How long a lease outlasts its last sign of life.
const TTL: Duration = Duration::from_secs(6);

#[derive(Default)]
pub(super) struct Etcd {
    revision: i64,
    /// The keys, and how often each was written since it was made.
    keys: BTreeMap<Vec<u8>, (KeyValue, i64)>,
    /// What each revision has changed.
    history: BTreeMap<i64, Vec<Event>>,
    /// Up to which revision the history is forgotten.
    compacted: i64,
    /// When each lease ends.
    leases: BTreeMap<i64, Duration>,
    last_lease: i64,
}

impl Etcd {
    pub(super) const fn revision(&self) -> i64 {
        self.revision
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        self.keys.get(key).map(|(kv, _)| kv)
    }

    /// The keys from `key` up to `end`; only `key` if `end` is empty.
    pub(super) fn span(&self, key: &[u8], end: &[u8]) -> Vec<KeyValue> {
        if end.is_empty() {
            return self.get(key).cloned().into_iter().collect();
        }
        self.keys.range(key.to_vec()..end.to_vec()).map(|(_, (kv, _))| kv.clone()).collect()
    }

    pub(super) fn txn(&mut self, request: &TxnRequest) -> TxnResponse {
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        let (next, mut changed) = (self.revision + 1, Vec::new());
        let steps = if succeeded { &request.success } else { &request.failure };
        let responses = steps.iter().map(|step| self.carry_out(step, next, &mut changed)).collect();
        self.changed(changed);
        TxnResponse { header: Some(Header { revision: self.revision }), succeeded, responses }
    }

    fn changed(&mut self, events: Vec<Event>) {
        if !events.is_empty() {
            self.revision += 1;
            self.history.insert(self.revision, events);
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let keys = match compare.range_end.as_slice() {
            [] => vec![self.keys.get(&compare.key)],
            end => match self.keys.range(compare.key.clone()..end.to_vec()).map(|(_, kv)| Some(kv)).collect::<Vec<_>>()
            {
                none if none.is_empty() => vec![None],
                some => some,
            },
        };
        keys.into_iter().all(|found| match compare.against {
            Some(Against::Version(version)) => found.map_or(0, |(_, version)| *version) == version,
            Some(Against::ModRevision(at)) => found.map_or(0, |(kv, _)| kv.mod_revision) == at,
            Some(Against::Lease(lease)) => {
                found.is_some_and(|(kv, _)| kv.lease == lease) || (found.is_none() && lease == 0)
            }
            None => false,
        })
    }

    fn carry_out(&mut self, step: &Op, next: i64, changed: &mut Vec<Event>) -> OpAnswer {
        match &step.request {
            Some(Request::Range(RangeRequest { key, range_end, .. })) => {
                let kvs = self.span(key, range_end);
                return OpAnswer { range: Some(RangeResponse { kvs, ..RangeResponse::default() }) };
            }
            Some(Request::Put(put)) => {
                let (made, version) = self.keys.get(&put.key).map_or((next, 0), |(kv, v)| (kv.create_revision, *v));
                let kv = KeyValue {
                    key: put.key.clone(),
                    create_revision: made,
                    mod_revision: next,
                    value: put.value.clone(),
                    lease: put.lease,
                };
                self.keys.insert(put.key.clone(), (kv.clone(), version + 1));
                changed.push(Event { kind: 0, kv: Some(kv) });
            }
            Some(Request::Delete(delete)) => {
                for kv in self.span(&delete.key, &delete.range_end) {
                    changed.push(self.delete(kv.key, next));
                }
            }
            None => {}
        }
        OpAnswer::default()
    }

    fn delete(&mut self, key: Vec<u8>, next: i64) -> Event {
        self.keys.remove(&key);
        Event { kind: 1, kv: Some(KeyValue { key, mod_revision: next, ..KeyValue::default() }) }
    }

    // === Leases ===

    pub(super) fn grant(&mut self, now: Duration) -> i64 {
        self.last_lease += 1;
        self.leases.insert(self.last_lease, now + TTL);
        self.last_lease
    }

    /// A sign of life. Returns whether the lease goes on.
    pub(super) fn keep(&mut self, lease: i64, now: Duration) -> bool {
        self.leases.get_mut(&lease).map(|ends| *ends = now + TTL).is_some()
    }

    /// There was no quorum up to then: the new leader has each lease begin anew.
    pub(super) fn prolong(&mut self, from: Duration) {
        self.leases.values_mut().for_each(|ends| *ends = from + TTL);
    }

    /// Ends a lease, and its keys with it.
    pub(super) fn revoke(&mut self, lease: i64) {
        self.leases.remove(&lease);
        let of_lease = self.keys.values().filter(|(kv, _)| kv.lease == lease).map(|(kv, _)| kv.key.clone());
        let (keys, next) = (of_lease.collect::<Vec<_>>(), self.revision + 1);
        let events = keys.into_iter().map(|key| self.delete(key, next)).collect();
        self.changed(events);
    }

    /// Ends the leases that had no sign of life.
    pub(super) fn expire(&mut self, now: Duration) {
        let over: Vec<i64> = self.leases.iter().filter(|(_, ends)| **ends <= now).map(|(lease, _)| *lease).collect();
        over.into_iter().for_each(|lease| self.revoke(lease));
    }

    // === Watches ===

    /// What each revision after `from` has changed.
    ///
    /// # Errors
    /// The first revision that is remembered, if some of these aren't.
    pub(super) fn since(&self, from: i64) -> Result<Vec<Vec<Event>>, i64> {
        if from < self.compacted {
            return Err(self.compacted);
        }
        Ok(self.history.range(from + 1..).map(|(_, events)| events.clone()).collect())
    }

    /// Forgets the history up to this revision.
    pub(super) fn compact(&mut self, revision: i64) {
        self.compacted = self.compacted.max(revision);
        self.history = self.history.split_off(&(self.compacted + 1));
    }
}

#[cfg(test)]
mod tests {
    use mesh_several::etcd::layout::{delete, is_unchanged, put};

    use super::*;

    fn txn(compare: Option<i64>, step: Op) -> TxnRequest {
        TxnRequest { compare: vec![is_unchanged(b"a".to_vec(), compare)], success: vec![step], failure: vec![] }
    }

    #[test]
    fn a_transaction_compares_what_was_written_last() {
        let mut etcd = Etcd::default();
        assert!(etcd.txn(&txn(None, put(b"a".to_vec(), b"1".to_vec(), 0))).succeeded);
        assert!(!etcd.txn(&txn(None, put(b"a".to_vec(), b"2".to_vec(), 0))).succeeded);
        assert!(etcd.txn(&txn(Some(1), put(b"a".to_vec(), b"3".to_vec(), 0))).succeeded);
        assert_eq!((etcd.revision(), etcd.get(b"a").unwrap().mod_revision), (2, 2));
        assert!(etcd.txn(&txn(Some(2), delete((b"a".to_vec(), vec![])))).succeeded);
        assert!(etcd.txn(&txn(None, delete((b"a".to_vec(), vec![])))).succeeded, "nothing is written");
        assert_eq!((etcd.revision(), etcd.since(1).unwrap().len()), (3, 2));
        etcd.compact(2);
        assert_eq!((etcd.since(1), etcd.since(2).unwrap().len()), (Err(2), 1));
    }

    #[test]
    fn keys_go_with_their_lease() {
        let (mut etcd, second) = (Etcd::default(), Duration::from_secs(1));
        let lease = etcd.grant(Duration::ZERO);
        etcd.txn(&TxnRequest { success: vec![put(b"a".to_vec(), vec![], lease)], ..TxnRequest::default() });
        assert!(etcd.keep(lease, second));
        etcd.expire(TTL);
        assert!(etcd.get(b"a").is_some());
        etcd.expire(TTL + second);
        assert!(etcd.get(b"a").is_none() && !etcd.keep(lease, TTL));
        assert_eq!(etcd.since(1).unwrap()[0][0].kind, 1);
    }
}
