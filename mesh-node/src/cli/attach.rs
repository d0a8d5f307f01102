//! `mesh-node attach`: puts an instance into a namespace.

use std::{os::fd::AsFd as _, path::PathBuf, process::ExitCode};

use clap::{ArgGroup, Args};
use mesh_proto::ServicePath;

use super::{
    Context,
    output::{Failure, note},
};
use crate::{
    containers::ContainerId,
    hosts::Place,
    local::{self, Request, target},
    oci,
};

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("where").required(true).args(["netns", "pid"])))]
pub(super) struct Attach {
    /// The service: DEPLOYMENT/SERVICE
    #[arg(value_name = "D/S")]
    service: ServicePath,
    /// The network namespace, such as /run/netns/NAME
    #[arg(long, value_name = "PATH")]
    netns: Option<PathBuf>,
    /// A process in the network namespace, such as a container's first one; its end is the instance's
    #[arg(long, value_name = "PID", value_parser = target::parse_pid)]
    pid: Option<i32>,
    /// The hosts file to keep names in; with --pid by default the process's /etc/hosts
    #[arg(long, value_name = "FILE")]
    hosts: Option<PathBuf>,
    /// It only calls others, and is never called
    #[arg(long)]
    client: bool,
    /// Give an agent that is just starting a few seconds to come up
    #[arg(long)]
    patient: bool,
}

impl Attach {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let (namespace, fd, process) = match (&self.netns, self.pid) {
            (Some(path), _) => {
                let (place, fd) = target::namespace(path)?;
                (place, fd, None)
            }
            (None, pid) => {
                let (place, fd, process) = target::process(pid.unwrap_or_default())?;
                (place, fd, Some(process))
            }
        };
        let hosts = match (self.hosts, self.pid) {
            (Some(path), _) => Some(target::hosts(Place::Path(path))?),
            (None, Some(pid)) => Some(target::hosts(Place::Process(pid))?),
            (None, None) => None,
        };
        let (hosts, file) = hosts.unzip();
        let fds: Vec<_> =
            [Some(&fd), file.as_ref(), process.as_ref()].into_iter().flatten().map(|fd| fd.as_fd()).collect();
        let process = process.is_some();
        let request = Request::Attach { service: self.service, client: self.client, namespace, hosts, process };
        let agent = if self.patient { oci::agent(&context.state) } else { context.agent() };
        let answer: local::Attach = agent.ask(&request, &fds)?;
        warnings(&answer.instance);
        if !answer.pending.is_empty() {
            let pending: Vec<&str> = answer.pending.iter().map(|name| &**name).collect();
            note(&format!("note: these runners do not know of it yet: {}", pending.join(", ")));
        }
        if answer.instance.draining {
            let id = answer.instance.id;
            note(&format!(
                "note: {id} is drained, and stays so: it takes no new connections until it is detached and attached again"
            ));
        }
        if context.output.json {
            context.output.print_json(&answer)?;
        } else {
            context.output.print(&instances(context, std::slice::from_ref(&answer.instance)))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Says on standard error what an instance does without.
pub(super) fn warnings(instance: &local::Instance) {
    instance.warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
}

/// Instances, for people.
pub(super) fn instances(context: &Context, instances: &[local::Instance]) -> String {
    let rows = instances.iter().map(|instance| {
        let kind = match (instance.client, instance.draining) {
            (true, _) => "client",
            (false, true) => "draining",
            (false, false) => "",
        };
        let containers = match &instance.containers[..] {
            [] => "-".to_owned(),
            ids => ids.iter().map(ContainerId::short).collect::<Vec<_>>().join(" "),
        };
        let (address, service) = (instance.address.to_string(), instance.service_address.to_string());
        [
            instance.id.to_string(),
            instance.service.to_string(),
            address,
            service,
            instance.interface.clone(),
            instance.connections.map_or_else(|| "-".to_owned(), |count| count.to_string()),
            containers,
            kind.to_owned(),
        ]
    });
    let head = ["INSTANCE", "SERVICE", "ADDRESS", "SERVICE ADDRESS", "INTERFACE", "CONNECTIONS", "CONTAINERS", ""];
    context.output.table(head, rows)
}
