//! A real HAProxy or nginx, by which a coordinator and a relay share port 443: what asks for TURN (ALPN `stun.turn`, RFC
//! 7443) is for the relay, and all else is for the coordinator. It opens no TLS.

use std::{fs, net::SocketAddr, path::PathBuf};

use crate::{Namespace, Network, netns, process::Daemon, wait};

/// The program that shares a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// HAProxy in mode TCP.
    Haproxy,
    /// nginx with its stream module, by `ssl_preread`.
    Nginx,
}

impl Switch {
    const fn program(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Haproxy => &["-db", "-f"],
            Self::Nginx => &["-e", "stderr", "-c"],
        }
    }

    fn configuration(self, turn: SocketAddr, other: SocketAddr) -> String {
        match self {
            Self::Haproxy => format!(
                "defaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n\
                 frontend shared\n bind :443\n tcp-request inspect-delay 5s\n\
                 tcp-request content accept if {{ req.ssl_hello_type 1 }}\n\
                 use_backend turn if {{ req.ssl_alpn stun.turn }}\n default_backend other\n\
                 backend turn\n server turn {turn}\n\
                 backend other\n server other {other}\n"
            ),
            Self::Nginx => format!(
                "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
                 daemon off;\nmaster_process off;\npid /run/nginx/pid;\nevents {{}}\n\
                 stream {{\n map $ssl_preread_alpn_protocols $there {{\n  ~\\bstun\\.turn\\b {turn};\n  default {other};\n }}\n\
                 server {{\n  listen 443;\n  ssl_preread on;\n  proxy_pass $there;\n  proxy_timeout 1h;\n }}\n}}\n"
            ),
        }
    }
}

/// Port 443 of a machine, which is shared.
pub struct SharedPort {
    network: Network,
    _namespace: Namespace,
    _daemon: Daemon,
}

impl SharedPort {
    /// Starts the program, and waits until it listens.
    ///
    /// # Panics
    /// If it isn't installed, or doesn't listen.
    pub(crate) fn start(
        switch: Switch,
        namespace: Namespace,
        network: Network,
        turn: SocketAddr,
        other: SocketAddr,
    ) -> Self {
        let program = switch.program();
        let directory = PathBuf::from("/run").join(program);
        fs::create_dir_all(&directory).expect("cannot make a directory");
        let configuration = directory.join("configuration");
        fs::write(&configuration, switch.configuration(turn, other)).expect("cannot write a file");
        let mut command = namespace.command(program);
        command.args(switch.arguments()).arg(&configuration);
        let mut daemon = Daemon::start(command, &directory.join("log"));
        wait::until_true(&format!("{program} to listen"), || {
            assert!(daemon.runs(), "{program} ended: is it installed, and libnginx-mod-stream?\n{}", daemon.log());
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
