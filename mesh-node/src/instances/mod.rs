//! The instances of this runner, and the containers that hold them. Their rules are in `mesh_lifecycle`; this is the one task that
//! owns a [`mesh_lifecycle::Lifecycle`], tells it what happens, and does what it wants done.

mod answer;
mod blocking;
mod ears;
mod execute;
mod handle;
mod hosts;
mod kept;
mod kernel;
#[cfg(test)]
pub(crate) mod lab;
mod log;
mod message;
mod probe;
mod reopen;
mod request;
mod save;
mod shell;
mod store;
mod watch;

pub(crate) use handle::Instances;
pub(crate) use request::{Life, Resolv, Start, Wish};
pub(crate) use shell::Parts;
pub(crate) use store::{FILE, FILE_OF_CONTAINERS, load};

#[cfg(test)]
mod tests;
