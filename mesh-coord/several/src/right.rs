//! By what right a coordinator commits.
//!
//! A decision is made by a right, and its commit compares that right. A lease that has ended never comes back, so a
//! coordinator that stood still for longer between the two commits nothing: its decision has an old time, by which an
//! address would come out of its quarantine too early.

use mesh_model::record::MemberId;

/// A right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// To use the records alone.
    Alone {
        /// The holder's lease.
        lease: i64,
    },
    /// A place among others.
    Place {
        /// The coordinator,
        member: MemberId,
        /// and its lease.
        lease: i64,
    },
}

impl Right {
    /// The holder's lease.
    #[must_use]
    pub const fn lease(self) -> i64 {
        match self {
            Self::Alone { lease } | Self::Place { lease, .. } => lease,
        }
    }
}
