//! `mesh-node join`: makes this machine a runner, unless it is one, and runs its agent.

use std::process::ExitCode;

use clap::Args;
use mesh_process::log::say;
use mesh_proto::message::Switches;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Context,
    enrol::{self, Enrol, ThisStart},
    output::{self, Failure},
    runtime,
};
use crate::{
    agent::{self, Identity},
    docker,
};

#[derive(Debug, Args)]
pub(super) struct Join {
    #[command(flatten)]
    enrol: Enrol,
    /// Join and exit: something else, such as systemd, starts the agent
    #[arg(long)]
    enrol_only: bool,
    /// Use no relays: other runners are reached directly or not at all
    #[arg(long)]
    no_relay: bool,
    /// Disable TCP super-packets on mesh0
    #[arg(long)]
    no_tun_gso: bool,
    /// Disable UDP_SEGMENT when sending
    #[arg(long)]
    no_udp_gso: bool,
    /// Disable UDP_GRO when receiving
    #[arg(long)]
    no_udp_gro: bool,
}

impl Join {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        mesh_process::log::start(output::log_colours());
        let variable = enrol::begin();
        let state = &context.state;
        let lock = state.take()?;
        let mut identity = Identity::load_or_new(state)?;
        let offloads = Switches { tun_gso: !self.no_tun_gso, udp_gso: !self.no_udp_gso, udp_gro: !self.no_udp_gro };
        let now = ThisStart { no_relay: self.no_relay, offloads };
        let settings = self.enrol.settings(now, state, &mut identity)?;
        let runtime = runtime()?;
        let ended = runtime.block_on(async {
            // From here on neither SIGHUP nor a file size limit (setrlimit(2)) ends the agent.
            let _caught = [SignalKind::hangup(), SignalKind::from_raw(libc::SIGXFSZ)].map(signal);
            let purpose = self.enrol.carry_out(context, &mut identity, &settings, variable).await?;
            if self.enrol_only {
                say("this machine is a runner of the mesh now; start its agent with `mesh-node join`, or systemctl start mesh-node");
                return Ok(());
            }
            agent::run(state.clone(), lock, identity, settings, purpose, docker::watch).await?;
            Ok::<_, Failure>(())
        });
        // Tasks that still block are abandoned: the next start repairs what they left undone.
        runtime.shutdown_background();
        ended?;
        Ok(ExitCode::SUCCESS)
    }
}
