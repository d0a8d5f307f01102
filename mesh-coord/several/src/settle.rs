//! Which coordinator can tell who has confirmed a change.

use std::collections::{BTreeMap, BTreeSet};

use mesh_model::record::MemberId;
use mesh_proto::RunnerId;
use mesh_sessions::Sessions;

/// Those of the runners that are connected to others, by the coordinators that have their streams.
#[must_use]
pub fn elsewhere(sessions: &Sessions, runners: &BTreeSet<RunnerId>) -> BTreeMap<MemberId, BTreeSet<RunnerId>> {
    let mut at: BTreeMap<MemberId, BTreeSet<RunnerId>> = BTreeMap::new();
    for runner in runners {
        if let Some(session) = sessions.elsewhere(*runner) {
            at.entry(session.stream.member).or_default().insert(*runner);
        }
    }
    at
}

/// The runners that have confirmed: those here, and those that others tell, of whom only those count that they were
/// asked about.
#[must_use]
pub fn confirmed(
    here: BTreeSet<RunnerId>,
    told: impl IntoIterator<Item = (BTreeSet<RunnerId>, BTreeSet<RunnerId>)>,
) -> BTreeSet<RunnerId> {
    let mut confirmed = here;
    for (asked, answer) in told {
        confirmed.extend(answer.intersection(&asked));
    }
    confirmed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runners<const N: usize>(numbers: [u64; N]) -> BTreeSet<RunnerId> {
        numbers.map(RunnerId).into()
    }

    #[test]
    fn a_coordinator_confirms_only_for_those_that_it_was_asked_about() {
        let told = [(runners([1, 2]), runners([2, 3])), (runners([4]), runners([]))];
        assert_eq!(confirmed(runners([8]), told), runners([2, 8]));
    }
}
