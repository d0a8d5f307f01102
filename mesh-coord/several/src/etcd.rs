//! How the records are kept in etcd: what is sent for a commit, what answers and a watch's events mean, and how far the
//! commits are known.

pub mod commit;
pub mod events;
pub mod layout;
pub mod position;
pub mod right;
pub mod wire;
