//! Switches of offloads: the mesh's, and each runner's own.

use std::sync::Arc;

use mesh_proto::{Label, RunnerId, message::Switches};

use crate::{
    Admin, Decision, Now, Offload, Outcome, Record, Refusal, State, audit::Note, draft::Draft, record::Runner,
};

/// Switches an offload of one runner or of the mesh.
pub(crate) fn switch(
    state: &State,
    by: &Admin,
    offload: Offload,
    on: bool,
    node: Option<&Label>,
    now: Now,
) -> Result<Decision, Refusal> {
    let mut draft = Draft::new(state, now);
    let mut warnings = Vec::new();
    let word = if on { "on" } else { "off" };
    match node {
        Some(name) => {
            let runner = state.ruled_runner(by, name)?;
            let mut switches = runner.switches;
            *offload.of(&mut switches) = on;
            if switches != runner.switches {
                draft.put(Record::Runner(Arc::new(Runner { switches, ..(**runner).clone() })));
                let detail = format!("{} {word} on {} `{name}`", offload.name(), runner.id);
                draft.audit(Note::admin(state, by, "switch", detail).of(runner.owner()).on(name));
            }
            if on && !*offload.of(&mut state.meta.switches.clone()) {
                warnings.push(format!(
                    "it stays off: the mesh's switch is off (`mesh-coord switch {} on`)",
                    offload.name()
                ));
            }
        }
        None => {
            if let Some(team) = &by.team {
                let what = "the mesh's switches (--node N switches a runner's own)".to_owned();
                return Err(Refusal::NotYours { what, team: team.clone() });
            }
            let mut switches = state.meta.switches;
            *offload.of(&mut switches) = on;
            if switches != state.meta.switches {
                draft.audit(Note::admin(state, by, "switch", format!("{} {word} on all nodes", offload.name())));
                draft.switches = switches;
            }
        }
    }
    Ok(draft.decided(Outcome::Switched { offload, on, node: node.cloned(), warnings }))
}

impl State {
    /// The mesh's switches.
    #[must_use]
    pub fn mesh_switches(&self) -> Switches {
        self.meta.switches
    }

    /// The offloads of a runner. Each is on if both the mesh's switch and its own are on.
    #[must_use]
    pub fn switches(&self, runner: RunnerId) -> Switches {
        let (mesh, own) = (self.meta.switches, self.runner(runner).map(|runner| runner.switches).unwrap_or_default());
        Switches {
            tun_gso: mesh.tun_gso && own.tun_gso,
            udp_gso: mesh.udp_gso && own.udp_gso,
            udp_gro: mesh.udp_gro && own.udp_gro,
        }
    }
}

#[cfg(test)]
mod tests;
