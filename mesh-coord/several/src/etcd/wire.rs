//! The messages of etcd's API about keys, as far as they are used: fields by their numbers, which never change. They are
//! written by hand, so that a build needs no protoc.

use prost::{Message, Oneof};

/// What each answer begins with.
#[derive(Clone, PartialEq, Message)]
pub struct Header {
    /// etcd's own revision.
    #[prost(int64, tag = "3")]
    pub revision: i64,
}

/// A key with its value.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// The key.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// etcd's revision at which it was made.
    #[prost(int64, tag = "2")]
    pub create_revision: i64,
    /// etcd's revision at which it was last written.
    #[prost(int64, tag = "3")]
    pub mod_revision: i64,
    /// The value.
    #[prost(bytes = "vec", tag = "5")]
    pub value: Vec<u8>,
    /// The lease that it goes with; 0: none.
    #[prost(int64, tag = "6")]
    pub lease: i64,
}

/// Reads keys.
#[derive(Clone, PartialEq, Message)]
pub struct RangeRequest {
    /// The first key.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// Where the keys end. Empty: the first one alone.
    #[prost(bytes = "vec", tag = "2")]
    pub range_end: Vec<u8>,
    /// The most keys of an answer; 0: all.
    #[prost(int64, tag = "3")]
    pub limit: i64,
    /// As of which of etcd's revisions; 0: the latest.
    #[prost(int64, tag = "4")]
    pub revision: i64,
}

/// The keys.
#[derive(Clone, PartialEq, Message)]
pub struct RangeResponse {
    /// What each answer begins with.
    #[prost(message, optional, tag = "1")]
    pub header: Option<Header>,
    /// The keys.
    #[prost(message, repeated, tag = "2")]
    pub kvs: Vec<KeyValue>,
    /// Whether there are more.
    #[prost(bool, tag = "3")]
    pub more: bool,
}

/// Writes a key.
#[derive(Clone, PartialEq, Message)]
pub struct PutRequest {
    /// The key.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// The value.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
    /// The lease that it goes with; 0: none.
    #[prost(int64, tag = "3")]
    pub lease: i64,
}

/// Deletes keys.
#[derive(Clone, PartialEq, Message)]
pub struct DeleteRequest {
    /// The first key.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// Where the keys end. Empty: the first one alone.
    #[prost(bytes = "vec", tag = "2")]
    pub range_end: Vec<u8>,
}

/// A step of a transaction.
#[derive(Clone, PartialEq, Message)]
pub struct Op {
    /// What it does.
    #[prost(oneof = "Request", tags = "1, 2, 3")]
    pub request: Option<Request>,
}

/// What a step does.
#[derive(Clone, PartialEq, Oneof)]
pub enum Request {
    /// Reads keys.
    #[prost(message, tag = "1")]
    Range(RangeRequest),
    /// Writes a key.
    #[prost(message, tag = "2")]
    Put(PutRequest),
    /// Deletes keys.
    #[prost(message, tag = "3")]
    Delete(DeleteRequest),
}

/// The answer to a step. Only those of ranges are read.
#[derive(Clone, PartialEq, Message)]
pub struct OpAnswer {
    /// The keys.
    #[prost(message, optional, tag = "1")]
    pub range: Option<RangeResponse>,
}

/// `CompareTarget`: how often it was written since it was made.
pub const BY_VERSION: i32 = 0;
/// `CompareTarget`: etcd's revision at which it was last written.
pub const BY_MOD_REVISION: i32 = 2;
/// `CompareTarget`: the lease that it goes with.
pub const BY_LEASE: i32 = 4;

/// A condition of a transaction: that the key has exactly this.
#[derive(Clone, PartialEq, Message)]
pub struct Compare {
    /// `CompareResult`; 0: equal.
    #[prost(int32, tag = "1")]
    pub result: i32,
    /// `CompareTarget`: by what it is compared.
    #[prost(int32, tag = "2")]
    pub target: i32,
    /// The key.
    #[prost(bytes = "vec", tag = "3")]
    pub key: Vec<u8>,
    /// What it has to have.
    #[prost(oneof = "Against", tags = "4, 6, 8")]
    pub against: Option<Against>,
    /// With it, all keys from `key` up to it; where there are none, the condition is held to a key that isn't there.
    #[prost(bytes = "vec", tag = "64")]
    pub range_end: Vec<u8>,
}

/// What a key is compared with.
#[derive(Clone, PartialEq, Oneof)]
pub enum Against {
    /// How often it was written since it was made; 0: it isn't there.
    #[prost(int64, tag = "4")]
    Version(i64),
    /// etcd's revision at which it was last written.
    #[prost(int64, tag = "6")]
    ModRevision(i64),
    /// The lease that it goes with.
    #[prost(int64, tag = "8")]
    Lease(i64),
}

/// A transaction.
#[derive(Clone, PartialEq, Message)]
pub struct TxnRequest {
    /// The conditions.
    #[prost(message, repeated, tag = "1")]
    pub compare: Vec<Compare>,
    /// What it does if all of them hold.
    #[prost(message, repeated, tag = "2")]
    pub success: Vec<Op>,
    /// What it does otherwise.
    #[prost(message, repeated, tag = "3")]
    pub failure: Vec<Op>,
}

/// What came of a transaction.
#[derive(Clone, PartialEq, Message)]
pub struct TxnResponse {
    /// What each answer begins with.
    #[prost(message, optional, tag = "1")]
    pub header: Option<Header>,
    /// Whether the conditions held.
    #[prost(bool, tag = "2")]
    pub succeeded: bool,
    /// The answers to the steps.
    #[prost(message, repeated, tag = "3")]
    pub responses: Vec<OpAnswer>,
}

/// What a watch tells.
#[derive(Clone, PartialEq, Message)]
pub struct WatchResponse {
    /// Whether the watch has begun.
    #[prost(bool, tag = "3")]
    pub created: bool,
    /// Whether it has ended.
    #[prost(bool, tag = "4")]
    pub canceled: bool,
    /// Not 0: what comes before is forgotten.
    #[prost(int64, tag = "5")]
    pub compact_revision: i64,
    /// Why it has ended.
    #[prost(string, tag = "6")]
    pub cancel_reason: String,
    /// What has happened to keys.
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<Event>,
}

/// What has happened to a key.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// `EventType`: 0 is a put, 1 a delete.
    #[prost(int32, tag = "1")]
    pub kind: i32,
    /// The key as it is since then.
    #[prost(message, optional, tag = "2")]
    pub kv: Option<KeyValue>,
}
