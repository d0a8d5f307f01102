//! Why a request can't be carried out.

use std::net::Ipv4Addr;

use mesh_proto::{InstanceId, ServicePath, message::Refusal};

/// Why a request can't be carried out. Its text says what happened; [`Error::hint`] what to try next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The namespace holds another instance.
    #[error("this namespace holds {instance} of {service} already{}", kind(*client))]
    Occupied {
        /// The instance that is there.
        instance: InstanceId,
        /// Its service.
        service: ServicePath,
        /// It is of the same service: then how it was attached makes the difference.
        client: Option<bool>,
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
    /// The file system of the hosts file takes its time.
    #[error("the names of an instance of {service} that has ended are still being taken out of the hosts file {hosts}")]
    HostsBusy {
        /// The file's name.
        hosts: String,
        /// The service that had it.
        service: ServicePath,
    },
    /// An address that takes traffic which is none of the mesh's.
    #[error("the coordinator gives the address {0}, which is none of the mesh's")]
    Foreign(Ipv4Addr),
    /// An answer to something else.
    #[error("the coordinator's answer doesn't fit the question")]
    Unfit,
    /// The coordinator gave an instance, and its view doesn't hold it.
    #[error("the coordinator has not sent the view with {0}")]
    Unseen(InstanceId),
    /// The caller hung up before anything was asked for.
    #[error("the caller has hung up")]
    HungUp,
    /// The coordinator is away, or says no; or the kernel does.
    #[error("{0}")]
    Refused(Refusal),
}

const fn kind(client: Option<bool>) -> &'static str {
    match client {
        None => "",
        Some(true) => ", attached with --client",
        Some(false) => ", attached without --client",
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
    /// The coordinator isn't there, or went away before it answered: whether it has acted isn't known.
    Away(Refusal),
    /// It says no.
    Refused(Refusal),
}

impl From<AskError> for Error {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Away(refusal) | AskError::Refused(refusal) => Self::Refused(refusal),
        }
    }
}
