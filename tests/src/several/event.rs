//! What is under way, and what happens.

use std::{collections::BTreeSet, time::Duration};

use mesh_model::{RunningSeconds, record::MemberId};
use mesh_proto::{Epoch, Revision, RunnerId};
use mesh_several::etcd::wire::{KeyValue, TxnRequest, TxnResponse, WatchResponse};

use super::agents::{Down, Up};

/// A process of a coordinator: its machine, and which of its processes, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) member: usize,
    pub(super) life: u32,
}

/// Who waits for an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub(super) process: Process,
    pub(super) call: u64,
}

/// A request to etcd.
pub(super) enum Ask {
    Txn(TxnRequest),
    Head,
    Load,
    /// A sign of life under a lease.
    Beat {
        lease: i64,
        me: MemberId,
        text: Vec<u8>,
        running: RunningSeconds,
    },
}

/// Its answer.
pub(super) enum Answer {
    Txn(TxnResponse),
    Head(Option<KeyValue>, i64),
    Load { head: Option<KeyValue>, records: Vec<KeyValue> },
    Beat { lease: i64, seated: Vec<KeyValue> },
}

/// What one coordinator asks another: which of these runners have confirmed what changed up to the revision?
#[derive(Clone)]
pub(super) struct Question {
    pub(super) from: Caller,
    pub(super) epoch: Epoch,
    pub(super) revision: Revision,
    pub(super) runners: BTreeSet<RunnerId>,
    pub(super) patience: Duration,
}

/// What comes to a coordinator.
pub(super) enum Input {
    Answer(u64, Answer),
    /// No answer has come.
    Late(u64),
    Told(u64, WatchResponse),
    /// Time to follow the commits again.
    Follow,
    Up(u64, RunnerId, Up),
    /// The connection of a stream is gone.
    Gone(u64),
    Question(Question),
    Answered(u64, BTreeSet<RunnerId>),
    Order(u64),
    /// The pause before a commit is over.
    Send(u64),
    /// Time to look whether there is a place again, up to this time.
    Renew(u64, Duration),
    /// The pause of a wait is over.
    Wait(u64),
    Load,
    Timer,
    Second,
    Beat,
}

pub(super) enum Event {
    Etcd(Caller, Ask),
    Input(Process, Input),
    /// A coordinator's process begins.
    Start(usize),
    /// A coordinator reaches all again.
    Heal(usize),
    Down(RunnerId, u64, Down),
    Apply(RunnerId),
    Connect(RunnerId),
    Agents,
    /// Machines join.
    Enrol,
    /// A client's answer.
    Answered(u64),
}
