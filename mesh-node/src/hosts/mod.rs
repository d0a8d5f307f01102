//! An instance's hosts file. Our names are between two marker lines, and everything else stays as it is. The
//! container's owner can't make the agent touch another file, wait for a file, or work on one without end.

mod bell;
mod edit;
mod file;
mod files;
mod guard;
mod id;
mod keeping;
mod kept;
mod ledger;
mod mounts;
mod place;
mod probe;
mod refused;
mod resolv;
mod scan;
mod seen;

pub(crate) use file::HostsFile;
pub(crate) use files::{Files, Taken};
pub(crate) use guard::Guards;
pub(crate) use kept::Kept;
pub(crate) use ledger::FILE;
pub(crate) use place::{Place, Reach};
#[cfg(test)]
pub(crate) use probe::tests::Stall;
pub(crate) use refused::Unkept;
