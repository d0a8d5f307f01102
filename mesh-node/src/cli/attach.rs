//! `mesh-node attach`: attaches an instance in a namespace.

use std::{os::fd::AsFd as _, path::PathBuf, process::ExitCode};

use clap::{ArgGroup, Args};
use mesh_proto::{Label, Release, ServicePath};

use super::{
    Context,
    error::Expected,
    output::{Failure, note},
};
use crate::{
    hosts::Place,
    local::{self, ContainerId, Request, target},
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
    /// A process in the network namespace, such as a container's first one; the instance ends with it
    #[arg(long, value_name = "PID", value_parser = parse_pid)]
    pid: Option<i32>,
    /// The hosts file to write names to; with --pid the default is the process's /etc/hosts
    #[arg(long, value_name = "FILE")]
    hosts: Option<PathBuf>,
    /// A resolv.conf that gets the instance's resolver as its first server, and its domains; other lines stay
    #[arg(long, value_name = "FILE")]
    resolv: Option<PathBuf>,
    /// Only open connections; the instance accepts none
    #[arg(long)]
    client: bool,
    /// The release that it runs, such as v42 or a commit's hash: its calls within the deployment prefer the same release
    #[arg(long, value_name = "RELEASE")]
    release: Option<Release>,
    /// Wait a few seconds for an agent that is just starting
    #[arg(long)]
    patient: bool,
}

fn parse_pid(text: &str) -> Result<i32, Expected> {
    text.parse().ok().filter(|pid| *pid > 0).ok_or(Expected::Pid)
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
        let resolv = self.resolv.map(|path| target::resolv(Place::Path(path))).transpose()?;
        let ((hosts, file), (resolv, resolv_file)) = (hosts.unzip(), resolv.unzip());
        let fds: Vec<_> = [Some(&fd), file.as_ref(), resolv_file.as_ref(), process.as_ref()]
            .into_iter()
            .flatten()
            .map(|fd| fd.as_fd())
            .collect();
        let process = process.is_some();
        let request = Request::Attach {
            service: self.service,
            client: self.client,
            release: self.release,
            namespace,
            hosts,
            resolv,
            process,
        };
        let agent = if self.patient { oci::agent(&context.state) } else { context.agent() };
        let answer: local::Attach = agent.ask(&request, &fds)?;
        warnings(&answer.instance);
        note_pending(&answer.pending);
        if answer.instance.draining {
            let id = answer.instance.id;
            note(&format!("note: {id} stays drained: it accepts no new connections until `mesh-node undrain {id}`"));
        }
        if context.output.json {
            context.output.print_json(&answer)?;
        } else {
            context.output.print(&instances(context, std::slice::from_ref(&answer.instance)))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints the warnings of an instance on standard error.
pub(super) fn warnings(instance: &local::Instance) {
    instance.warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
}

/// Notes on standard error which runners have not applied a change yet.
pub(super) fn note_pending(pending: &[Label]) {
    if !pending.is_empty() {
        let names: Vec<&str> = pending.iter().map(|name| &**name).collect();
        note(&format!("note: these runners have not applied the change yet: {}", names.join(", ")));
    }
}

/// A table of instances.
pub(super) fn instances(context: &Context, instances: &[local::Instance]) -> String {
    let released = instances.iter().any(|instance| instance.release.is_some());
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
        let release = instance.release.as_ref().map_or_else(String::new, ToString::to_string);
        [
            instance.id.to_string(),
            instance.service.to_string(),
            address,
            service,
            instance.interface.clone(),
            instance.connections.map_or_else(|| "-".to_owned(), |count| count.to_string()),
            containers,
            kind.to_owned(),
            if released && release.is_empty() { "-".to_owned() } else { release },
        ]
    });
    // Most instances are neither clients nor draining: the column is there where it says something.
    let state = if instances.iter().any(|instance| instance.client || instance.draining) { "STATE" } else { "" };
    let release = if released { "RELEASE" } else { "" };
    let head =
        ["INSTANCE", "SERVICE", "ADDRESS", "SERVICE ADDRESS", "INTERFACE", "CONNECTIONS", "CONTAINERS", state, release];
    context.output.table(head, rows)
}
