//! A router that forwards ports on request: miniupnpd, which speaks PCP (RFC 6887) and NAT-PMP (RFC 6886), with nftables.

use std::{fs, net::Ipv4Addr, path::PathBuf};

use crate::{Router, process::Daemon, wait};

/// Its tables: what it forwards is translated, and passes whatever the router's own firewall says of answers.
const TABLE: &str = "table inet miniupnpd {
    chain forward { type filter hook forward priority -5; jump allowed; }
    chain allowed { }
    chain before { type nat hook prerouting priority dstnat; jump mapped; }
    chain after { type nat hook postrouting priority 101; jump returned; }
    chain mapped { }
    chain returned { }
}
insert rule inet guard forward iifname eth0 ct status dnat accept
";

/// miniupnpd on a router, for its first network. It forwards from an address that is the router's besides its own, since it
/// takes none that is private.
pub struct Mapper<'a> {
    router: &'a Router,
    directory: PathBuf,
    daemon: Option<Daemon>,
}

impl<'a> Mapper<'a> {
    pub(crate) fn new(router: &'a Router) -> Self {
        let directory = PathBuf::from("/run").join(format!("{}-mapper", router.namespace().name()));
        fs::create_dir(&directory).expect("a new directory");
        router.namespace().nft(TABLE);
        Self { router, directory, daemon: None }
    }

    /// Starts it, to forward from this address.
    ///
    /// # Panics
    /// If it runs, isn't installed, or doesn't listen.
    pub fn start(&mut self, outside: Ipv4Addr) {
        assert!(self.daemon.is_none(), "miniupnpd runs already");
        let (configuration, directory) = (self.directory.join("miniupnpd.conf"), self.directory.display());
        let text = format!(
            "ext_ifname=eth0\next_ip={outside}\nlistening_ip=lan1\nenable_natpmp=yes\nenable_upnp=no\nsecure_mode=yes\n\
             min_lifetime=10\nupnp_table_name=miniupnpd\nupnp_nat_table_name=miniupnpd\nupnp_forward_chain=allowed\n\
             upnp_nat_chain=mapped\nupnp_nat_postrouting_chain=returned\nuuid=00000000-0000-0000-0000-000000000000\n\
             lease_file={directory}/leases\n"
        );
        fs::write(&configuration, text).expect("cannot write a file");
        let mut command = self.router.namespace().command("miniupnpd");
        command.arg("-d").arg("-f").arg(&configuration).arg("-P").arg(self.directory.join("pid"));
        let mut daemon = Daemon::start(command, &self.directory.join("log"));
        wait::until_true("miniupnpd to listen", || {
            assert!(daemon.runs(), "miniupnpd ended: is miniupnpd-nftables installed?\n{}", daemon.log());
            daemon.log().contains("Listening for NAT-PMP/PCP traffic")
        });
        self.daemon = Some(daemon);
    }

    /// Ends it at once, and all that it forwards: as a router that is switched off.
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn kill(&mut self) {
        self.daemon.take().expect("miniupnpd runs").kill();
        let _ = fs::remove_file(self.directory.join("leases"));
        self.router.namespace().nft("flush chain inet miniupnpd mapped\nflush chain inet miniupnpd allowed\n");
    }

    /// It doesn't know PCP any more, as older routers.
    pub fn forget_pcp(&self) {
        self.router.namespace().nft(
            "table inet older {
                chain input { type filter hook input priority 0; udp dport 5351 @th,64,8 2 drop; }
            }
            ",
        );
    }

    /// It goes on to grant ports, and lets nothing in at them.
    pub fn stop_forwarding(&self) {
        self.router.namespace().nft(
            "table inet broken {
                chain pre { type filter hook prerouting priority -300; iifname eth0 udp dport 51820 drop; }
            }
            ",
        );
    }

    /// Whether it forwards a port to a machine.
    #[must_use]
    pub fn forwards(&self, port: u16, to: Ipv4Addr) -> bool {
        let rule = format!("dport {port} dnat ip to {to}:");
        self.router.namespace().nft_output("list chain inet miniupnpd mapped").contains(&rule)
    }
}
