//! `mesh-node wait`: returns when an instance of a service answers.

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use mesh_process::duration;
use mesh_proto::{
    ServicePath,
    message::{Refusal, Step},
};
use serde::Serialize;

use super::{
    Context,
    error::Expected,
    output::{Failure, Ink},
};
use crate::local::{self, ClientError, Request, Verdict};

/// The time from an answer to the next attempt.
const PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug, Args)]
pub(super) struct Wait {
    /// The service that is waited for: DEPLOYMENT/SERVICE
    #[arg(value_name = "D/S")]
    service: ServicePath,
    /// The TCP port; the default is the one that the service declares
    #[arg(long, value_parser = super::why::parse_port)]
    port: Option<u16>,
    /// The service whose instance on this runner tries; the default is any that may call it
    #[arg(long, value_name = "D/S")]
    from: Option<ServicePath>,
    /// How long to wait, such as 30s or 5m
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = parse_duration)]
    timeout: Duration,
}

fn parse_duration(text: &str) -> Result<Duration, Expected> {
    duration::parse_short(text).map_err(|_| Expected::Duration)
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Waited<'a> {
    version: u32,
    service: &'a ServicePath,
    port: u16,
    /// Whether an instance has answered.
    answered: bool,
    /// The service whose instance has tried last.
    from: Option<ServicePath>,
    /// Why no instance answers, in a word that stays the same.
    code: Option<String>,
}

/// What came of one attempt.
enum Tried {
    Answered(ServicePath),
    /// The last step that didn't hold, and who has tried.
    Not(Step, ServicePath),
    /// Nothing could be tried, for this reason if there is an instance here that may be the caller.
    Nothing(Option<Refusal>),
}

impl Wait {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let end = Instant::now() + self.timeout;
        // Neither a port that isn't declared nor a service that isn't there comes about by waiting.
        let port = self.port.map_or_else(|| self.declared_port(context), Ok)?;
        let tried = loop {
            let tried = self.try_all(context, port)?;
            if matches!(tried, Tried::Answered(_)) || Instant::now() >= end {
                break tried;
            }
            thread::sleep(PAUSE);
        };
        self.tell(context, port, tried)
    }

    fn declared_port(&self, context: &Context) -> Result<u16, Failure> {
        let names: local::Names = context.agent().ask(&Request::Names { service: self.service.clone() }, &[])?;
        names.variables.get("PORT").and_then(|port| port.parse().ok()).ok_or_else(|| {
            Failure::Refused(Refusal::new(
                format!("{} declares no port", self.service),
                format!("name the one that is waited for: mesh-node wait {} --port 5432", self.service),
            ))
        })
    }

    /// Lets an instance of each service of this runner that may be a caller open a connection, until one is answered.
    fn try_all(&self, context: &Context, port: u16) -> Result<Tried, Failure> {
        let callers = match &self.from {
            Some(from) => vec![from.clone()],
            None => self.callers(context)?,
        };
        let mut last = Tried::Nothing(None);
        for caller in callers {
            let request = Request::Why { caller: caller.clone(), callee: self.service.clone(), port, probe: true };
            let why: local::Why = match context.agent().ask(&request, &[]) {
                Ok(why) => why,
                // The caller's last instance may just have ended.
                Err(ClientError::Refused(refusal)) if self.from.is_some() => return Err(Failure::Refused(refusal)),
                Err(ClientError::Refused(refusal)) => {
                    last = Tried::Nothing(Some(refusal));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let failed = why.steps.into_iter().find(|step| !step.ok);
            match (why.verdict, failed) {
                (Verdict::Allow, _) => return Ok(Tried::Answered(caller)),
                (Verdict::Deny, Some(step)) => last = Tried::Not(step, caller),
                (Verdict::Deny, None) => {}
            }
        }
        Ok(last)
    }

    /// The services with an instance here, those of the same deployment first: they need no trust. An instance reaches its
    /// own service within its namespace.
    fn callers(&self, context: &Context) -> Result<Vec<ServicePath>, Failure> {
        let status: local::Status = context.agent().ask(&Request::Status, &[])?;
        let mut callers: Vec<ServicePath> = status.instances.into_iter().map(|instance| instance.service).collect();
        callers.retain(|caller| *caller != self.service);
        callers.sort_by_cached_key(|caller| (caller.deployment != self.service.deployment, caller.to_string()));
        callers.dedup();
        Ok(callers)
    }

    fn tell(&self, context: &Context, port: u16, tried: Tried) -> Result<ExitCode, Failure> {
        let (service, output) = (&self.service, &context.output);
        if output.json {
            let (answered, from, code) = match tried {
                Tried::Answered(from) => (true, Some(from), None),
                Tried::Not(step, from) => (false, Some(from), Some(step.code)),
                Tried::Nothing(_) => (false, None, Some("no-caller".to_owned())),
            };
            output.print_json(&Waited { version: local::VERSION, service, port, answered, from, code })?;
            return Ok(ExitCode::from(u8::from(!answered)));
        }
        let within = duration::show_short(self.timeout);
        Err(Failure::Refused(match tried {
            Tried::Answered(_) => {
                output.print(&format!("{service} {} on port {port}\n", output.ink(Ink::Good, "answers")))?;
                return Ok(ExitCode::SUCCESS);
            }
            Tried::Not(step, from) => Refusal::new(
                format!("{service} does not answer on port {port} within {within}: {}", step.detail),
                format!("mesh-node why {from} {service} {port} --probe"),
            ),
            Tried::Nothing(Some(refusal)) => refusal,
            Tried::Nothing(None) => Refusal::new(
                format!("no instance that could try {service} is on this runner"),
                format!("wait as one that may call it: mesh-node run DEPLOYMENT/SERVICE -- mesh-node wait {service}"),
            ),
        }))
    }
}
