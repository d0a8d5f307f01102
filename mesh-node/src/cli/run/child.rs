//! The command itself: started, sent the signals that we get, waited for.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt as _,
    process::{ExitCode, ExitStatus},
};

use mesh_proto::message::Refusal;
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getpgrp, tcgetpgrp},
};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{super::output::Failure, OURS};
use crate::exec;

/// Signals that are meant for the command when they are sent to us.
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

/// Variables with secrets that are for the mesh's own programs. The command shall not have them, and pass them on, because they were
/// set where it was started.
const SECRETS: [&str; 2] = ["MESH_TOKEN", "MESH_ADMIN_TOKEN"];

pub(super) async fn run(
    program: &OsString,
    arguments: &[OsString],
    variables: &BTreeMap<String, String>,
) -> Result<ExitCode, Failure> {
    // Caught before the command runs, so that none ends us and leaves it behind.
    let mut signals = catch().map_err(|e| Refusal::bare(format!("signals can't be caught: {e}")))?;
    let mut command = Command::new(program);
    for secret in SECRETS {
        command.env_remove(secret);
    }
    let mut child = command.args(arguments).envs(variables).spawn().map_err(|e| {
        let code = if e.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
        if e.kind() == io::ErrorKind::ArgumentListTooLong {
            return Failure::Code(too_long(arguments, variables), code);
        }
        Failure::Code(Refusal::bare(format!("cannot run {}: {e}", program.display())), code)
    })?;
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.map_err(|e| Refusal::bare(format!("cannot wait for the command: {e}")))?;
                return Ok(code(status));
            }
            Some(signal) = signals.recv() => pass_on(&child, signal),
        }
    }
}

/// Of what there is too much, and what to do about it.
fn too_long(arguments: &[OsString], variables: &BTreeMap<String, String>) -> Refusal {
    let inherited =
        std::env::vars_os().filter(|(name, _)| name.to_str().is_none_or(|name| !variables.contains_key(name)));
    let theirs =
        arguments.iter().map(|text| text.len()).chain(inherited.map(|(name, value)| name.len() + 1 + value.len()));
    let why = exec::fits("the command", theirs, variables, None).err();
    Refusal::new(
        why.unwrap_or_else(|| {
            "the command can't be started: one of its arguments is longer than the kernel takes (E2BIG)".into()
        }),
        "leave out the variables that lead to other deployments' services, with --no-foreign-variables: host names lead there \
         nevertheless",
    )
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
    // What is typed at a terminal goes to everybody in its foreground, the command included.
    let typed = matches!(signal, Signal::SIGINT | Signal::SIGQUIT | Signal::SIGWINCH);
    if typed && tcgetpgrp(io::stdin()).is_ok_and(|foreground| foreground == getpgrp()) {
        return;
    }
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may just have ended.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// The command's own code; 128 and the signal's number if one ended it.
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
    fn the_commands_end_is_ours() {
        assert_eq!(run_sh("exit 0"), ExitCode::from(0));
        assert_eq!(run_sh("exit 7"), ExitCode::from(7));
        assert_eq!(run_sh("kill -9 $$"), ExitCode::from(137));
    }

    #[test]
    fn variables_that_a_shell_could_not_set_arrive() {
        assert_eq!(run_with("printenv", &["WARP_IST_my-db"]).unwrap(), ExitCode::from(0));
        assert_eq!(run_with("printenv", &["WARP_IST_nobody"]).unwrap(), ExitCode::from(1));
    }

    #[test]
    fn more_variables_than_a_program_can_have_are_said_to_be_that() {
        let variables = (0..60_000).map(|n| (format!("WARP_IST_{n:0100}"), "100.112.0.2".to_owned())).collect();
        let outcome = super::super::runtime().unwrap().block_on(run(&"true".into(), &[], &variables));
        let Err(Failure::Code(refusal, 126)) = outcome else { panic!("{outcome:?}") };
        assert!(refusal.error.contains("60000 variables of the mesh"), "{refusal}");
        assert!(refusal.hint.is_some_and(|hint| hint.contains("--no-foreign-variables")));
    }

    #[test]
    fn what_cannot_be_run_has_the_codes_of_env() {
        let refused = |program: &str| match run_with(program, &[]) {
            Err(Failure::Code(_, code)) => code,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused("/nonexistent/program"), 127);
        assert_eq!(refused("/etc"), 126);
    }
}
