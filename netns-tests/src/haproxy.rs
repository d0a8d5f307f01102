//! A real HAProxy, by which a coordinator and a relay share port 443: what asks for TURN (ALPN `stun.turn`, RFC 7443) is
//! for the relay, and all else is for the coordinator. It opens no TLS.

use std::{fs, net::SocketAddr, path::PathBuf};

use crate::{Namespace, Network, netns, process::Daemon, wait};

/// HAProxy at port 443 of a machine.
pub struct Haproxy {
    network: Network,
    _namespace: Namespace,
    _daemon: Daemon,
}

impl Haproxy {
    /// Starts it, and waits until it listens.
    ///
    /// # Panics
    /// If it isn't installed, or doesn't listen.
    pub(crate) fn start(namespace: Namespace, network: Network, turn: SocketAddr, other: SocketAddr) -> Self {
        let directory = PathBuf::from("/run").join(namespace.name());
        fs::create_dir_all(&directory).expect("cannot make a directory");
        let configuration = directory.join("haproxy.cfg");
        let text = format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n\
             frontend shared\n bind :443\n tcp-request inspect-delay 5s\n\
             tcp-request content accept if {{ req.ssl_hello_type 1 }}\n\
             use_backend turn if {{ req.ssl_alpn stun.turn }}\n default_backend other\n\
             backend turn\n server turn {turn}\n\
             backend other\n server other {other}\n"
        );
        fs::write(&configuration, text).expect("cannot write a file");
        let mut command = namespace.command("haproxy");
        command.arg("-db").arg("-f").arg(&configuration);
        let mut daemon = Daemon::start(command, &directory.join("out.log"));
        wait::until_true("haproxy to listen", || {
            assert!(daemon.runs(), "haproxy ended: is it installed?\n{}", daemon.log());
            netns::listens(&namespace, 443)
        });
        Self { network, _namespace: namespace, _daemon: daemon }
    }

    /// Where it listens.
    #[must_use]
    pub fn place(&self) -> SocketAddr {
        (self.network.v4(2), 443).into()
    }
}
