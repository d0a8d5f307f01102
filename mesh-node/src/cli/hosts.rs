//! `mesh-node hosts`: the names of a service's instances, whether one runs or not.

use std::process::ExitCode;

use clap::Args;
use mesh_proto::ServicePath;

use super::{
    Context,
    output::{Failure, note},
};
use crate::local::{self, ClientError, Request};

#[derive(Debug, Args)]
pub(super) struct Hosts {
    /// The service: DEPLOYMENT/SERVICE
    #[arg(value_name = "D/S")]
    service: ServicePath,
}

impl Hosts {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let names = names(context, &self.service, &[])?;
        if context.output.json {
            let value = serde_json::json!({"version": local::VERSION, "hosts": names.hosts});
            context.output.print_json(&value)?;
        } else {
            let lines: String = names.hosts.iter().map(|host| format!("{} {}\n", host.address, host.name)).collect();
            context.output.print(&lines)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The names of a service's instances. Prints on standard error which names were left out, except for what has been `warned` of.
pub(super) fn names(context: &Context, service: &ServicePath, warned: &[String]) -> Result<local::Names, ClientError> {
    let names: local::Names = context.agent().ask(&Request::Names { service: service.clone() }, &[])?;
    let news = names.warnings.iter().filter(|warning| !warned.contains(warning));
    news.for_each(|warning| note(&format!("warning: {warning}")));
    Ok(names)
}
