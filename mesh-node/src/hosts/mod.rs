//! An instance's hosts file. Our names are between two marker lines, and everything else stays as it is. The
//! container's owner can't make the agent touch another file, wait for a file, or work on one without end.

mod edit;
mod file;
mod files;
mod guard;
mod place;
mod scan;

pub(crate) use file::{FileId, HostsFile, Unkept};
pub(crate) use files::{Files, Kept, Taken};
pub(crate) use guard::Guards;
pub(crate) use place::Place;
