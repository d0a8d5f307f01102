//! Requests to etcd, and what comes of them.

use std::time::Duration;

use mesh_model::{RunningSeconds, record::MemberId};
use mesh_several::{
    etcd::{
        commit::known,
        layout::put,
        wire::{KeyValue, Op, RangeRequest, Request, TxnRequest, WatchResponse},
    },
    store::StoreError,
};

use super::{
    event::{Answer, Ask, Caller, Event, Input},
    member::Pending,
    world::World,
};

/// How long etcd's answers may take.
pub(super) const READ: Duration = Duration::from_millis(1500);
pub(super) const WRITE: Duration = Duration::from_secs(4);

impl World {
    /// A request has come to etcd.
    pub(super) fn at_etcd(&mut self, caller: Caller, ask: Ask) {
        let before = self.etcd.revision();
        self.etcd.expire(self.now);
        let answer = match ask {
            Ask::Txn(request) => Answer::Txn(self.etcd.txn(&request)),
            Ask::Head => Answer::Head(self.etcd.get(&self.layout.head()).cloned(), self.etcd.revision()),
            Ask::Load => {
                let (first, end) = self.layout.records();
                Answer::Load {
                    head: self.etcd.get(&self.layout.head()).cloned(),
                    records: self.etcd.span(&first, &end),
                }
            }
            Ask::Beat { lease, me, text, running } => {
                let (lease, seated) = self.seat(lease, me, text, Some(running));
                Answer::Beat { lease, seated }
            }
        };
        self.tell(before);
        let process = caller.process;
        if !self.members[process.member].cut_store && (self.calm || !self.rng.chance(2)) {
            let pause = self.latency();
            self.after(pause, Event::Input(process, Input::Answer(caller.call, answer)));
        }
    }

    /// Writes a coordinator's place, under a lease that lives, and the running time. Returns the lease, what the running
    /// time was, and who is there.
    pub(super) fn seat(
        &mut self,
        lease: i64,
        me: MemberId,
        text: Vec<u8>,
        running: Option<RunningSeconds>,
    ) -> (i64, Vec<KeyValue>) {
        let lease = if self.etcd.keep(lease, self.now) { lease } else { self.etcd.grant(self.now) };
        let (key, range_end) = self.layout.members();
        let all = RangeRequest { key, range_end, ..RangeRequest::default() };
        let clock = RangeRequest { key: self.layout.clock(), ..RangeRequest::default() };
        let range = |range| Op { request: Some(Request::Range(range)) };
        let mut success = vec![range(clock), put(self.layout.member(me), text, lease)];
        success.extend(running.map(|running| self.layout.put_clock(running)));
        success.push(range(all));
        let answer = self.etcd.txn(&TxnRequest { success, ..TxnRequest::default() });
        let ranges = answer.responses.into_iter().filter_map(|answer| answer.range);
        (lease, ranges.flat_map(|range| range.kvs).collect())
    }

    /// Tells all who follow what has changed in etcd since its revision `before`.
    pub(super) fn tell(&mut self, before: i64) {
        for events in self.etcd.since(before).unwrap_or_default() {
            self.landed(&events);
            for member in 0..self.members.len() {
                let Some(watch) = self.members[member].program.as_ref().and_then(|program| program.watch) else {
                    continue;
                };
                let message = WatchResponse { events: events.clone(), ..WatchResponse::default() };
                self.tell_one(member, watch, message);
            }
        }
    }

    pub(super) fn tell_one(&mut self, member: usize, watch: u64, message: WatchResponse) {
        let pause = self.latency();
        // A connection keeps the order.
        let at = (self.now + pause).max(self.members[member].told_until);
        self.members[member].told_until = at;
        let times = if !self.calm && self.rng.chance(3) { 2 } else { 1 };
        for _ in 0..times {
            self.input_after(at - self.now, member, Input::Told(watch, message.clone()));
        }
    }

    // === At the coordinator ===

    pub(super) fn take_answer(&mut self, member: usize, call: u64, answer: Option<Answer>) {
        let Some(program) = &mut self.members[member].program else { return };
        let Some(what) = program.pending.remove(&call) else { return };
        match (what, answer) {
            (Pending::Swap { top, began }, Some(Answer::Txn(answer))) => self.swapped(member, &top, began, &answer),
            (Pending::Swap { .. }, _) => {
                self.tally.unknown += 1;
                self.committed(member, Err(StoreError::Unknown));
            }
            (Pending::Base, answer) => self.based(member, answer),
            (Pending::Load, answer) => self.loaded(member, answer),
            (Pending::Beat, Some(Answer::Beat { lease, seated })) => {
                if let Some(program) = &mut self.members[member].program {
                    program.lease = lease;
                }
                self.take_in(member, &seated);
            }
            (Pending::Beat, _) => {}
            (Pending::Look(before, refresh), answer) => self.looked(member, before, refresh, answer),
            (Pending::Gap, Some(Answer::Head(head, at))) => {
                if let Some(head) = head.and_then(|kv| known(&self.layout, &kv).ok()) {
                    self.advance(member, &head, None);
                }
                if let Some(program) = &mut self.members[member].program {
                    program.from = at;
                }
                self.follow(member);
            }
            (Pending::Gap, _) => self.gap(member),
            (Pending::Peer(wait, asked), _) => self.told_by_peer(member, wait, asked, None),
        }
    }
}
