//! A real HTTP proxy: squid, in a namespace that plays its machine.

use std::{fs, path::PathBuf};

use crate::{Namespace, Network, netns, process::Daemon, wait};

/// Debian's program that checks passwords for squid.
const CHECKER: &str = "/usr/lib/squid/basic_ncsa_auth";
/// `p@ss:w0rd`, as htpasswd(1) writes it.
const PASSWORD: &str = "me:$apr1$meshmesh$PLtmIsZZU4TnzmgyYfIHy.\n";

/// Squid at port 3128 of a machine. It lets CONNECT through to one port only.
pub struct Squid {
    namespace: Namespace,
    network: Network,
    configuration: PathBuf,
    directory: PathBuf,
    daemon: Option<Daemon>,
}

impl Squid {
    /// The user whom [`Squid::start_with_login`] lets in, and the password as it stands in a URL.
    pub const LOGIN: &str = "me:p%40ss%3Aw0rd";

    pub(crate) fn new(namespace: Namespace, network: Network) -> Self {
        let directory = PathBuf::from("/run").join(namespace.name());
        fs::create_dir_all(&directory).expect("cannot make a directory");
        fs::write(directory.join("users"), PASSWORD).expect("cannot write a file");
        let configuration = directory.join("squid.conf");
        Self { namespace, network, configuration, directory, daemon: None }
    }

    /// Starts it for everyone, and waits until it listens.
    pub fn start_open(&mut self, port: u16) {
        self.start(port, "all");
    }

    /// Starts it for [`Squid::LOGIN`] only, and waits until it listens.
    pub fn start_with_login(&mut self, port: u16) {
        self.start(port, "known");
    }

    fn start(&mut self, port: u16, whom: &str) {
        assert!(self.daemon.is_none(), "squid runs already");
        let directory = self.directory.display();
        let text = format!(
            "http_port 3128\npid_filename none\nvisible_hostname squid\ncoredump_dir {directory}\ncache_mem 1 MB\n\
             cache_log {directory}/cache.log\naccess_log stdio:{directory}/access.log\nnetdb_filename none\n\
             pinger_enable off\nshutdown_lifetime 0 seconds\n\
             auth_param basic program {CHECKER} {directory}/users\nauth_param basic children 1 startup=1 idle=1\n\
             acl known proxy_auth REQUIRED\nacl mesh port {port}\n\
             http_access deny !{whom}\nhttp_access allow CONNECT mesh\nhttp_access deny all\n"
        );
        fs::write(&self.configuration, text).expect("cannot write a file");
        // Squid refuses to be root, and in a user namespace there is no other user to become.
        let mut command = self.namespace.command("unshare");
        command.args(["--user", "--map-user=1", "--map-group=1", "squid", "-N", "-f"]).arg(&self.configuration);
        let mut daemon = Daemon::start(command, &self.directory.join("out.log"));
        wait::until_true("squid to listen", || {
            assert!(daemon.runs(), "squid ended: is it installed?\n{}", daemon.log());
            netns::listens(&self.namespace, 3128)
        });
        self.daemon = Some(daemon);
    }

    /// Ends it at once, and every connection through it.
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn kill(&mut self) {
        self.daemon.take().expect("squid runs").kill();
    }

    /// `ADDRESS:PORT`, where it listens.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:3128", self.network.v4(2))
    }

    /// The lines about requests that it has finished.
    #[must_use]
    pub fn served(&self) -> String {
        fs::read_to_string(self.directory.join("access.log")).unwrap_or_default()
    }

    /// Its machine.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}
