//! An instance's hosts file: our names stand between two marker lines, everything else stays as it is, and whoever owns
//! the container can't make us touch any other file, nor wait for it, nor be busy with it without end.

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
