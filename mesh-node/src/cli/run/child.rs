//! The command: starts it, forwards signals to it, waits for it.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt as _,
    process::{ExitCode, ExitStatus},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getpgrp, tcgetpgrp},
};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{super::output::Failure, OURS, RunError};
use crate::exec;

/// Signals to this process that are forwarded to the command.
const PASSED_ON: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];

/// Variables with secrets of the mesh's own programs. The command must not inherit them from the place where it was started.
const SECRETS: [&str; 2] = ["MESH_TOKEN", "MESH_ADMIN_TOKEN"];

pub(super) async fn run(
    program: &OsString,
    arguments: &[OsString],
    variables: &BTreeMap<String, String>,
) -> Result<ExitCode, Failure> {
    // Caught before the command runs: a signal that ended this process would leave the command behind.
    let mut signals = catch().map_err(RunError::Signals)?;
    let mut command = Command::new(program);
    for secret in SECRETS {
        command.env_remove(secret);
    }
    let mut child = command.args(arguments).envs(variables).spawn().map_err(|e| {
        let code = if e.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
        let error = match e.kind() {
            io::ErrorKind::ArgumentListTooLong => too_large(arguments, variables),
            _ => RunError::Start { program: program.into(), error: e },
        };
        Failure::with_code(&error, code)
    })?;
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.map_err(RunError::Wait)?;
                return Ok(code(status));
            }
            Some(signal) = signals.recv() => pass_on(&child, signal),
        }
    }
}

/// Why the kernel finds the argument list too long.
fn too_large(arguments: &[OsString], variables: &BTreeMap<String, String>) -> RunError {
    let inherited =
        std::env::vars_os().filter(|(name, _)| name.to_str().is_none_or(|name| !variables.contains_key(name)));
    let theirs =
        arguments.iter().map(|text| text.len()).chain(inherited.map(|(name, value)| name.len() + 1 + value.len()));
    match exec::fits("the command", theirs, variables, None) {
        Err(error) => RunError::TooLarge(error),
        Ok(()) => RunError::LongArgument,
    }
}

fn catch() -> io::Result<mpsc::UnboundedReceiver<Signal>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    for number in PASSED_ON {
        let mut caught = signal(SignalKind::from_raw(number as i32))?;
        let sender = sender.clone();
        tokio::spawn(async move { while caught.recv().await.is_some() && sender.send(number).is_ok() {} });
    }
    Ok(receiver)
}

fn pass_on(child: &Child, signal: Signal) {
    // The terminal sends its signals to the whole foreground group, the command included.
    let typed = matches!(signal, Signal::SIGINT | Signal::SIGQUIT | Signal::SIGWINCH);
    if typed && tcgetpgrp(io::stdin()).is_ok_and(|foreground| foreground == getpgrp()) {
        return;
    }
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may just have ended.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// The command's exit code; 128 plus the signal's number if a signal ended it.
fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(OURS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_with(program: &str, arguments: &[&str]) -> Result<ExitCode, Failure> {
        let arguments: Vec<OsString> = arguments.iter().map(Into::into).collect();
        let variables = [("WARP_IST_my-db".to_owned(), "100.112.0.2".to_owned())].into();
        super::super::runtime().unwrap().block_on(run(&program.into(), &arguments, &variables))
    }

    fn run_sh(script: &str) -> ExitCode {
        run_with("sh", &["-c", script]).unwrap()
    }

    #[test]
    fn the_exit_code_is_the_commands() {
        assert_eq!(run_sh("exit 0"), ExitCode::from(0));
        assert_eq!(run_sh("exit 7"), ExitCode::from(7));
        assert_eq!(run_sh("kill -9 $$"), ExitCode::from(137));
    }

    #[test]
    fn variables_that_a_shell_could_not_set_arrive() {
        assert_eq!(run_with("printenv", &["WARP_IST_my-db"]).unwrap(), ExitCode::from(0));
        assert_eq!(run_with("printenv", &["WARP_IST_missing"]).unwrap(), ExitCode::from(1));
    }

    #[test]
    fn too_many_variables_are_reported_as_such() {
        let variables = (0..60_000).map(|n| (format!("WARP_IST_{n:0100}"), "100.112.0.2".to_owned())).collect();
        let outcome = super::super::runtime().unwrap().block_on(run(&"true".into(), &[], &variables));
        let Err(Failure::Code(refusal, 126)) = outcome else { panic!("{outcome:?}") };
        assert!(refusal.error.contains("60000 variables of the mesh"), "{refusal}");
        assert!(refusal.hint.is_some_and(|hint| hint.contains("--no-foreign-variables")));
    }

    #[test]
    fn a_command_that_cannot_run_has_the_codes_of_env() {
        let refused = |program: &str| match run_with(program, &[]) {
            Err(Failure::Code(_, code)) => code,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused("/nonexistent/program"), 127);
        assert_eq!(refused("/etc"), 126);
    }
}
