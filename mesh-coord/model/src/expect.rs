//! What a deployment's file expects of the rules: policy tests.

use mesh_proto::{ServicePath, rules};
use serde::{Deserialize, Serialize};

use crate::{Admin, State, declare::Expect, record::TrustSource};

/// What is known of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knowledge {
    /// All of it.
    All,
    /// Some files. Others, and commands, may say more.
    Files,
}

/// Whether an expectation holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Judgement {
    /// It does.
    Met,
    /// It doesn't.
    Unmet {
        /// Why, in words.
        why: String,
    },
    /// The files alone don't say.
    Undecided {
        /// What is missing, in words.
        why: String,
    },
}

impl State {
    /// Whether an expectation of an administrator holds.
    #[must_use]
    pub fn judge(&self, by: &Admin, expect: &Expect, knowledge: Knowledge) -> Judgement {
        let Expect { from, to, port, allow, .. } = expect;
        let ruled = |path: &ServicePath| self.deployment_named(&path.deployment).filter(|d| by.rules(&d.team));
        let service = |path: &ServicePath| self.service_in(ruled(path)?.id, &path.service);
        if knowledge == Knowledge::Files {
            let callee = ruled(to);
            let decided = from.deployment == to.deployment
                || callee.is_some_and(|callee| match &callee.trust_source {
                    TrustSource::Command => false,
                    TrustSource::File(_) => {
                        ruled(from).is_some() || callee.trust.iter().all(|entry| entry.caller != from.deployment)
                    }
                });
            if !decided {
                return Judgement::Undecided { why: self.missing(ruled(from).is_some(), callee.is_some(), expect) };
            }
            // A trust list without the caller refuses it, whatever the caller is.
            if ruled(from).is_none() && service(to).is_some() {
                return judged(*allow, Err(rules::Denial::NoTrust));
            }
        }
        match (service(from), service(to)) {
            (Some(from), Some(to)) => judged(*allow, rules::may_open(self, from.id, to.id, *port)),
            (None, _) => Judgement::Unmet { why: format!("there is no service {from}") },
            (_, None) => Judgement::Unmet { why: format!("there is no service {to}") },
        }
    }

    /// What the files don't say.
    fn missing(&self, has_caller: bool, has_callee: bool, Expect { from, to, .. }: &Expect) -> String {
        match (has_caller, has_callee) {
            (_, false) => format!("no file declares {}", to.deployment),
            (false, true) => format!("no file declares {}", from.deployment),
            (true, true) => format!("the trust of {} is left to `mesh-coord trust`", to.deployment),
        }
    }
}

fn judged(allow: bool, verdict: Result<(), rules::Denial>) -> Judgement {
    match (allow, verdict) {
        (true, Ok(())) | (false, Err(_)) => Judgement::Met,
        (true, Err(denial)) => Judgement::Unmet { why: format!("it is refused: {denial}") },
        (false, Ok(())) => Judgement::Unmet { why: "it is allowed".to_owned() },
    }
}

#[cfg(test)]
mod tests;
