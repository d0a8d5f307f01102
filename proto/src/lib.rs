//! What all parts of mesh share: identifiers, keys, names and their encoding, rules and their verdict, views and
//! deltas, tokens, and the messages of the control stream.
//!
//! The crate is pure: no sockets, clocks, files or randomness. All input from outside is parsed into types that hold
//! only valid values, or refused with an error that says why.

pub mod ability;
pub mod endpoint;
pub mod ids;
pub mod key;
pub mod label;
pub mod message;
pub mod names;
pub mod range;
pub mod relay;
pub mod rules;
#[cfg(feature = "schema")]
pub mod schema;
pub mod telemetry;
pub mod token;
pub mod view;
pub mod why;

mod text;

pub use ability::{Abilities, Ability};
pub use ids::{DeploymentId, Epoch, InstanceId, RelayId, Revision, RunnerId, ServiceId, TokenId};
pub use key::{PrivateKey, Proof, PublicKey, Secret, SecretHash};
pub use label::{Label, Release, ServiceName, ServicePath};
pub use range::Range;
pub use rules::{Direction, Ports, Segment, Verdict};
pub use view::{Delta, Key, Record, View};
