//! Which role a command needs.

use crate::{Admin, AdminCommand, Command, Refusal, Role};

/// The role that a command needs.
const fn needed(command: &AdminCommand) -> Role {
    match command {
        AdminCommand::Apply { dry_run: true, .. } => Role::Viewer,
        AdminCommand::Apply { .. }
        | AdminCommand::Delete { .. }
        | AdminCommand::Trust { .. }
        | AdminCommand::Drain { .. }
        | AdminCommand::Undrain { .. }
        | AdminCommand::DrainNode { .. }
        | AdminCommand::UndrainNode { .. } => Role::Operator,
        AdminCommand::RevokeToken { .. }
        | AdminCommand::RemoveNode { .. }
        | AdminCommand::RemoveRelay { .. }
        | AdminCommand::Switch { .. } => Role::Admin,
    }
}

/// Refuses a command that needs another role.
pub(crate) fn check(command: &Command) -> Result<(), Refusal> {
    match command {
        Command::Admin { by, what } => by.is_at_least(needed(what)),
        Command::Apply { by, what } => by.is_at_least(if what.dry_run { Role::Viewer } else { Role::Operator }),
        Command::CreateToken { by, .. } | Command::AddRelay { by, .. } => by.is_at_least(Role::Admin),
        Command::Refused { .. }
        | Command::Runner { .. }
        | Command::Streamed { .. }
        | Command::Begin { .. }
        | Command::Owing(_)
        | Command::NoteCalls(_)
        | Command::Enrol(_)
        | Command::EnrolRelay(_)
        | Command::RelayHello { .. }
        | Command::Silent { .. }
        | Command::Expire(_)
        | Command::PutBack { .. } => Ok(()),
    }
}

impl Admin {
    /// Whether it has this role, or one that includes it.
    ///
    /// # Errors
    /// If it has not.
    pub fn is_at_least(&self, needed: Role) -> Result<(), Refusal> {
        if self.role >= needed { Ok(()) } else { Err(Refusal::Role { has: self.role, needed }) }
    }
}

#[cfg(test)]
mod tests;
