//! systemd, where it runs the machine: a unit of ours, and what the journal has of it.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// The operator's units, which win over those of packages.
const OWN: &str = "/etc/systemd/system";
/// The directories of packaged units.
const PACKAGED: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];
/// Where a unit with `ProtectHome=` or `PrivateTmp=` finds no program.
const HIDDEN: [&str; 5] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];

/// Why systemd hasn't done what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// systemctl(1) can't be run.
    #[error("systemctl cannot be run: {0}")]
    Start(io::Error),
    /// It refuses.
    #[error("systemctl {command} failed: {said}")]
    Refused {
        /// Its arguments.
        command: String,
        /// Its output.
        said: String,
    },
}

impl SystemdError {
    /// What to try next.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Start(_) => "is systemctl installed, and on the PATH?",
            Self::Refused { .. } => "do what it says, then try again",
        }
    }
}

/// Whether systemd is the machine's first process: sd_booted(3).
#[must_use]
pub fn runs_the_machine() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Whether a unit that sees neither home directories nor /tmp can't run a program.
#[must_use]
pub fn is_hidden(program: &Path) -> bool {
    HIDDEN.iter().any(|hidden| program.starts_with(hidden))
}

/// Whether a path needs no quotes, neither in a unit nor in a script.
#[must_use]
pub fn is_plain(path: &str) -> bool {
    path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c))
}

/// Makes systemd read all units again.
///
/// # Errors
/// If it doesn't.
pub fn reload() -> Result<(), SystemdError> {
    systemctl(&["daemon-reload"]).map(drop)
}

/// A service.
#[derive(Debug, Clone, Copy)]
pub struct Unit {
    /// Its name without `.service`.
    pub name: &'static str,
}

/// Whether a unit runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It runs, or is about to.
    Active,
    /// It has failed, and isn't started again.
    Failed,
    /// It doesn't run.
    Inactive,
}

impl Unit {
    /// The file in which an operator has it.
    #[must_use]
    pub fn own(&self) -> PathBuf {
        Path::new(OWN).join(format!("{}.service", self.name))
    }

    /// The file in which a package has it, if one does.
    #[must_use]
    pub fn packaged(&self) -> Option<PathBuf> {
        let files = PACKAGED.iter().map(|directory| Path::new(directory).join(format!("{}.service", self.name)));
        files.into_iter().find(|file| file.exists())
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// If systemd doesn't say.
    pub fn state(&self) -> Result<State, SystemdError> {
        systemctl(&["show", "--property=ActiveState", self.name]).map(|said| state(&said))
    }

    /// Whether it is started when the machine starts.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        systemctl(&["is-enabled", "--quiet", self.name]).is_ok()
    }

    /// Has it started now and whenever the machine starts. Returns before it runs.
    ///
    /// # Errors
    /// If systemd refuses.
    pub fn enable_and_start(&self) -> Result<(), SystemdError> {
        systemctl(&["enable", "--quiet", self.name])?;
        // It may have failed before, too often for another start. A unit that hasn't is no matter.
        let _ = systemctl(&["reset-failed", self.name]);
        systemctl(&["start", "--no-block", self.name]).map(drop)
    }

    /// Stops it, until it is started again.
    ///
    /// # Errors
    /// If systemd refuses.
    pub fn stop(&self) -> Result<(), SystemdError> {
        systemctl(&["stop", self.name]).map(drop)
    }

    /// Stops it, and has it started no more.
    ///
    /// # Errors
    /// If systemd refuses.
    pub fn stop_and_disable(&self) -> Result<(), SystemdError> {
        systemctl(&["disable", "--now", "--quiet", self.name]).map(drop)
    }

    /// The last lines that the journal has of it, under a heading, to be shown; `None` if it has none.
    #[must_use]
    pub fn last_lines(&self) -> Option<String> {
        let lines = ["--no-pager", "--quiet", "--output=cat", "--lines=10", "--unit", self.name];
        let said = call("journalctl", &lines).map(|output| output.stdout).unwrap_or_default();
        let lines: String = String::from_utf8_lossy(&said).lines().map(|line| format!("  {line}\n")).collect();
        (!lines.is_empty()).then(|| format!("the last lines of `journalctl -u {}`:\n{lines}", self.name))
    }
}

fn state(shown: &str) -> State {
    match shown.trim().strip_prefix("ActiveState=").unwrap_or_default() {
        "active" | "activating" | "reloading" | "refreshing" => State::Active,
        "failed" => State::Failed,
        _ => State::Inactive,
    }
}

fn systemctl(arguments: &[&str]) -> Result<String, SystemdError> {
    let output = call("systemctl", &[&["--no-ask-password", "--no-pager"], arguments].concat());
    let output = output.map_err(SystemdError::Start)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    let said = if said.is_empty() { output.status.to_string() } else { said };
    Err(SystemdError::Refused { command: arguments.join(" "), said })
}

fn call(program: &str, arguments: &[&str]) -> io::Result<Output> {
    Command::new(program).args(arguments).env("SYSTEMD_COLORS", "0").stdin(Stdio::null()).output()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_between_two_starts_is_about_to_run() {
        for (shown, expected) in [
            ("ActiveState=active\n", State::Active),
            ("ActiveState=activating\n", State::Active),
            ("ActiveState=failed\n", State::Failed),
            ("ActiveState=inactive\n", State::Inactive),
            ("ActiveState=deactivating\n", State::Inactive),
            ("", State::Inactive),
        ] {
            assert_eq!(state(shown), expected, "{shown}");
        }
    }

    #[test]
    fn a_program_in_a_home_directory_is_hidden_from_units() {
        for program in ["/root/mesh-coord", "/home/me/mesh/target/release/mesh-coord", "/tmp/x"] {
            assert!(is_hidden(Path::new(program)), "{program}");
        }
        for program in ["/usr/bin/mesh-coord", "/opt/mesh/mesh-coord", "/rooted/x"] {
            assert!(!is_hidden(Path::new(program)), "{program}");
        }
    }
}
