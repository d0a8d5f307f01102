//! What pages show, as the admin API answers it (`docs/reference/json.md`). Other fields are ignored, and ones that an
//! earlier coordinator lacks are empty.

mod access;
mod answered;
mod deployed;
mod mesh;
mod traffic;

pub use access::{Me, Token, Tokens};
pub use answered::{Audit, Entry, Step, Why};
pub use deployed::{
    Deployment, Deployments, Instance, Instances, Service, ServiceInstance, Services, Trust, TrustEntry,
};
pub use mesh::{Need, Node, Nodes, Overview, Provider, Relay, Relays};
pub use mesh_model::Role;
pub use traffic::{Coverage, Edge, Edges, Lacking, OfPair, Refusals, Refused, Series};
