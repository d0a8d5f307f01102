//! `mesh-node env`: the variables of a service's instances, whether one runs or not.

use std::{collections::BTreeMap, process::ExitCode};

use clap::{Args, ValueEnum};
use mesh_proto::{ServicePath, names::is_identifier};

use super::{Context, hosts::names, output::Failure};

#[derive(Debug, Args)]
pub(super) struct Env {
    /// The service: DEPLOYMENT/SERVICE
    #[arg(value_name = "D/S")]
    service: ServicePath,
    /// The form: `shell` for eval, without names that a shell can't set; `json`: all, as one object; `docker`: all, for
    /// --env-file; `systemd` for EnvironmentFile=, without names that systemd rejects
    #[arg(long, value_enum, default_value = "shell")]
    format: Format,
    /// Leave out the variables of other deployments' services
    #[arg(long)]
    no_foreign_variables: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Shell,
    Json,
    Docker,
    Systemd,
}

impl Env {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let variables = names(context, &self.service, &[])?.chosen((!self.no_foreign_variables).into());
        let format = if context.output.json { Format::Json } else { self.format };
        match format {
            Format::Json => context.output.print_json(&variables)?,
            text => context.output.print_data(&render(&variables, text))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Values need no quoting: they are addresses and ports.
fn render(variables: &BTreeMap<String, String>, format: Format) -> String {
    let all = matches!(format, Format::Json | Format::Docker);
    let fits = |name: &str| all || is_identifier(name);
    let export = if format == Format::Shell { "export " } else { "" };
    variables.iter().filter(|(name, _)| fits(name)).map(|(name, value)| format!("{export}{name}={value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_and_systemd_get_the_names_they_accept_and_docker_all() {
        let variables = [("PORT", "80"), ("WARP_IST_my-db", "100.112.0.2"), ("WARP_IST_my_db", "100.112.0.2")];
        let names = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(render(&names, Format::Shell), "export PORT=80\nexport WARP_IST_my_db=100.112.0.2\n");
        assert_eq!(render(&names, Format::Docker), "PORT=80\nWARP_IST_my-db=100.112.0.2\nWARP_IST_my_db=100.112.0.2\n");
        assert_eq!(render(&names, Format::Systemd), "PORT=80\nWARP_IST_my_db=100.112.0.2\n");
    }
}
