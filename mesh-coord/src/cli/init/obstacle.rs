//! What is in the way of a coordinator on a machine, and what to do about it.

use std::{net::SocketAddr, path::PathBuf};

use super::{address::AddressError, options, unit::DATA};

/// What is in the way.
#[derive(Debug, thiserror::Error)]
pub(super) enum Obstacle {
    #[error("systemd does not run this machine, so it can't run the coordinator: nothing was done")]
    NoSystemd {
        /// The options for the foreground.
        instead: String,
    },
    #[error("only root may have systemd run the coordinator: nothing was done")]
    NotRoot,
    #[error("only root may stop the coordinator and take out what `init` has written: nothing was done")]
    NotRootToUndo,
    /// No address can be chosen.
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("the coordinator runs already, with other options: {0}")]
    Runs(String),
    #[error("{FILE} sets MESH_COORD_OPTIONS already, to other options: {0}", FILE = options::FILE)]
    Theirs(String),
    #[error("{DATA} holds a mesh already, whose range was chosen at its first start")]
    HasMesh,
    #[error("the coordinator can't listen at {at}: {error}")]
    Port { at: SocketAddr, error: String },
    #[error("the coordinator has no privileges, and port {0} needs them")]
    Privileged(u16),
    #[error("`{0}` has characters with a special meaning in {FILE}", FILE = options::FILE)]
    Odd(String),
    #[error("the unit finds no program in a home directory or in /tmp, and this one is {program}", program = .0.display())]
    Hidden(PathBuf),
}

impl Obstacle {
    /// What to try next.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::NoSystemd { instead } => format!(
                "run it in the foreground, under what starts programs here: mesh-coord serve {instead}; then: mesh-coord token \
                 create --any --uses 10"
            ),
            Self::NotRoot => "sudo mesh-coord init …; for one of this user: mesh-coord serve".to_owned(),
            Self::NotRootToUndo => "sudo mesh-coord init --undo; --dry-run shows what it takes out".to_owned(),
            Self::Address(error) => error.hint(),
            Self::Runs(_) => format!(
                "change them in {}, and systemctl restart mesh-coord; or mesh-coord init --undo first, which leaves the mesh as it \
                 is",
                options::FILE
            ),
            Self::Theirs(_) => "add yours there and leave them out here, or remove that line".to_owned(),
            Self::HasMesh => {
                format!(
                    "leave --range out to go on with it; to begin another one, move {DATA} away (/var/lib/private/mesh-coord)"
                )
            }
            Self::Port { .. } => {
                "`ss -ltnp` shows which program listens there; for another port: --listen [::]:PORT".to_owned()
            }
            Self::Privileged(_) => {
                "listen above 1023 and forward the port there; or lower net.ipv4.ip_unprivileged_port_start".to_owned()
            }
            Self::Odd(_) => "use letters, digits and . _ - : / [ ] only".to_owned(),
            Self::Hidden(_) => "install it, for example in /usr/local/bin, and run it from there".to_owned(),
        }
    }
}
