//! Why a request can't be carried out.

use std::net::Ipv4Addr;

use mesh_proto::{InstanceId, Release, ServicePath, message::Refusal};

/// Why a request can't be carried out. Its text says what happened; [`Error::hint`] what to try next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The namespace holds another instance.
    #[error("this namespace holds {instance} of {service} already{difference}")]
    Occupied {
        /// The instance that is there.
        instance: InstanceId,
        /// Its service.
        service: ServicePath,
        /// How it differs from the one that is asked for.
        difference: Difference,
    },
    /// No such instance.
    #[error("there is no instance {0} on this runner")]
    Missing(InstanceId),
    /// No instance in a namespace.
    #[error("there is no instance in this namespace")]
    Vacant,
    /// An instance of another service keeps the hosts file.
    #[error("the hosts file {hosts} holds the names of {instance} of {service} already")]
    HostsTaken {
        /// The file's name.
        hosts: String,
        /// The instance that keeps it.
        instance: InstanceId,
        /// Its service.
        service: ServicePath,
    },
    /// The names of an ended instance are still being taken out of the hosts file.
    #[error("the names of an instance of {service} that has ended are still being taken out of the hosts file {hosts}")]
    HostsBusy {
        /// The file's name.
        hosts: String,
        /// The service that had it.
        service: ServicePath,
    },
    /// An address that would take traffic outside the mesh.
    #[error("the coordinator gives the address {0}, which is none of the mesh's")]
    Foreign(Ipv4Addr),
    /// An answer to another question.
    #[error("the coordinator's answer doesn't fit the question")]
    Unfit,
    /// The coordinator gave an instance, and its view does not hold the instance.
    #[error("the coordinator has not sent the view with {0}")]
    Unseen(InstanceId),
    /// The caller hung up before anything was asked for.
    #[error("the caller has hung up")]
    HungUp,
    /// The coordinator is away or refuses, or a step in the kernel or at a file has failed.
    #[error("{0}")]
    Refused(Refusal),
}

/// How the instance of a namespace differs from one that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// It is of another service.
    Service,
    /// It only calls, or is called as well.
    Client(bool),
    /// It is of this release, or of none.
    Release(Option<Release>),
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service => Ok(()),
            Self::Client(true) => f.write_str(", attached with --client"),
            Self::Client(false) => f.write_str(", attached without --client"),
            Self::Release(Some(release)) => write!(f, ", of release {release}"),
            Self::Release(None) => f.write_str(", attached without --release"),
        }
    }
}

impl Error {
    /// What to try next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Occupied { instance, .. } => {
                format!("one namespace holds one instance; `mesh-node detach {instance}` makes room")
            }
            Self::Missing(_) => "`mesh-node status` lists those that are".to_owned(),
            Self::Vacant => "`mesh-node status` lists the instances of this runner".to_owned(),
            Self::HostsTaken { instance, .. } => format!(
                "give it a hosts file of its own: only instances of one service can share one; `mesh-node detach {instance}` \
                 frees it"
            ),
            Self::HostsBusy { .. } => {
                "try again when its file system answers, or give another one with --hosts FILE".to_owned()
            }
            Self::Unseen(_) => "try again when it answers".to_owned(),
            Self::Refused(refusal) => return refusal.hint.clone(),
            Self::Foreign(_) | Self::Unfit | Self::HungUp => return None,
        })
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(refusal) => refusal,
            other => Self { error: other.to_string(), hint: other.hint() },
        }
    }
}

/// Why a question to the coordinator has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskError {
    /// There is no stream, or it ended before the answer: whether the coordinator has acted is unknown.
    Away(Refusal),
    /// The coordinator refuses.
    Refused(Refusal),
}

impl From<AskError> for Error {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Away(refusal) | AskError::Refused(refusal) => Self::Refused(refusal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts are frozen: scripts and people read them.
    #[test]
    fn every_error_says_what_happened_and_what_to_try_next() {
        let (instance, service) = (InstanceId(3), || "shop/db".parse::<ServicePath>().unwrap());
        let room = Some("one namespace holds one instance; `mesh-node detach i-3` makes room");
        let hosts = || "/h".to_owned();
        for (error, text, hint) in [
            (
                Error::Occupied { instance, service: service(), difference: Difference::Service },
                "this namespace holds i-3 of shop/db already",
                room,
            ),
            (
                Error::Occupied { instance, service: service(), difference: Difference::Client(true) },
                "this namespace holds i-3 of shop/db already, attached with --client",
                room,
            ),
            (
                Error::Occupied { instance, service: service(), difference: Difference::Release("v1".parse().ok()) },
                "this namespace holds i-3 of shop/db already, of release v1",
                room,
            ),
            (
                Error::Missing(instance),
                "there is no instance i-3 on this runner",
                Some("`mesh-node status` lists those that are"),
            ),
            (
                Error::Vacant,
                "there is no instance in this namespace",
                Some("`mesh-node status` lists the instances of this runner"),
            ),
            (
                Error::HostsTaken { hosts: hosts(), instance, service: service() },
                "the hosts file /h holds the names of i-3 of shop/db already",
                Some(
                    "give it a hosts file of its own: only instances of one service can share one; `mesh-node detach i-3` \
                     frees it",
                ),
            ),
            (
                Error::HostsBusy { hosts: hosts(), service: service() },
                "the names of an instance of shop/db that has ended are still being taken out of the hosts file /h",
                Some("try again when its file system answers, or give another one with --hosts FILE"),
            ),
            (
                Error::Foreign([10, 0, 0, 1].into()),
                "the coordinator gives the address 10.0.0.1, which is none of the mesh's",
                None,
            ),
            (Error::Unfit, "the coordinator's answer doesn't fit the question", None),
            (
                Error::Unseen(instance),
                "the coordinator has not sent the view with i-3",
                Some("try again when it answers"),
            ),
        ] {
            assert_eq!((error.to_string().as_str(), error.hint().as_deref()), (text, hint));
        }
    }
}
