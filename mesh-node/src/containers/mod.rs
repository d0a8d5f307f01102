//! Containers, as their runtimes know them: which service each belongs to by its labels, and which of them hold an instance.
//! Several containers can share a network namespace, and so an instance; it ends with the last of them.

mod labels;
mod manager;
mod table;

pub(crate) use labels::{CLIENT, IMAGES_OWN, Labels, Member, SERVICE, counts, leave_out_the_images, member, texts};
pub(crate) use manager::{Containers, Life, Start};
pub(crate) use table::FILE;

pub(crate) use crate::local::ContainerId;

#[cfg(test)]
mod tests;
