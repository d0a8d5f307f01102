//! An instance: a namespace that a runner has attached, and what goes on in it.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpStream},
    path::PathBuf,
};

use crate::{
    Capture, NamedServer, Namespace, traffic,
    traffic::{Answer, Server},
};

/// A network namespace with an instance in it.
pub struct Instance {
    /// Where its programs run.
    pub namespace: Namespace,
    /// Its identifier.
    pub id: String,
    /// Its own address.
    pub address: Ipv4Addr,
    /// The address of its service.
    pub service_address: Ipv4Addr,
    /// The hosts file that it was attached with.
    pub hosts: PathBuf,
}

impl Instance {
    /// A server in it.
    #[must_use]
    pub fn serve(&self, port: u16, answer: Answer) -> Server {
        Server::start(&self.namespace, port, answer)
    }

    /// A server in it that has the instance's identifier as its name.
    #[must_use]
    pub fn serve_named(&self, port: u16) -> NamedServer {
        NamedServer::start(&self.namespace, &self.id, port)
    }

    /// A blocking `connect` from it: [`traffic::connect`].
    ///
    /// # Errors
    /// The errno of `connect`.
    pub fn connect(&self, to: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
        self.namespace.enter(|| traffic::connect(to, port))
    }

    /// A capture of what passes its `mesh0`.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn capture(&self) -> Capture {
        Capture::interface(&self.namespace, "mesh0")
    }

    /// From now on all incoming packets are dropped: a caller gets no answer, as from a machine that hangs.
    pub fn freeze(&self) {
        self.block("add", &["action", "block"]);
    }

    /// Ends [`Instance::freeze`].
    pub fn thaw(&self) {
        self.block("del", &[]);
    }

    /// By IPsec's policies: the agent puts back what the mesh's own rules and routes lose.
    fn block(&self, verb: &str, more: &[&str]) {
        for address in [self.address, self.service_address] {
            let policy = format!("xfrm policy {verb} src 0.0.0.0/0 dst {address}/32 dir in");
            self.namespace.ip(&[[&[policy.as_str()], more].concat().join(" ").as_str()]);
        }
    }

    /// The lines of its hosts file.
    ///
    /// # Panics
    /// If it can't be read.
    #[must_use]
    pub fn hosts_lines(&self) -> Vec<String> {
        fs::read_to_string(&self.hosts).expect("the hosts file").lines().map(str::to_owned).collect()
    }
}
