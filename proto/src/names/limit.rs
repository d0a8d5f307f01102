//! The limit of names in a hosts file: every look-up reads the whole file, and a trusted neighbour decides how many
//! services it has.

use std::collections::{BTreeMap, btree_map::Entry};

use super::claim::{Claim, Rank};
use crate::{DeploymentId, ServiceId, View};

/// The most bytes of our block in a hosts file, including the lines around it.
pub const LIMIT: usize = 256 << 10;
/// Room for these lines.
const AROUND: usize = 64;

/// The order in which names get room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// Declared names.
    Declared(Rank),
    /// Own names: one of each service before a second of any.
    Own { form: u32 },
    /// Foreign names: those of one service of each deployment before a second service of any, so that none takes the
    /// room of the others.
    Foreign { turn: u32, deployment: DeploymentId },
}

/// The claims that fit, in their order, and a warning if some don't.
pub(super) fn limit(view: &View, own: DeploymentId, claims: Vec<Claim>) -> (Vec<Claim>, Option<String>) {
    let all: usize = AROUND + claims.iter().map(size).sum::<usize>();
    if all <= LIMIT {
        return (claims, None);
    }
    let mut order: Vec<(Place, usize)> = places(view, own, &claims).zip(0..).collect();
    order.sort_unstable();
    let (mut room, mut fits) = (LIMIT - AROUND, vec![false; claims.len()]);
    for (_, at) in order {
        let (Some(claim), Some(fits)) = (claims.get(at), fits.get_mut(at)) else { continue };
        let Some(left) = room.checked_sub(size(claim)) else { break };
        (room, *fits) = (left, true);
    }
    let (mut left_out, mut foreign, mut kept) = (0_usize, 0_usize, Vec::with_capacity(claims.len()));
    for (claim, fits) in claims.into_iter().zip(fits) {
        match fits {
            true => kept.push(claim),
            false => {
                left_out += 1;
                foreign += usize::from(claim.rank == Rank::Foreign);
            }
        }
    }
    let whose = match left_out - foreign {
        0 => "all of them of other deployments".to_owned(),
        own => format!("{own} of its own deployment and {foreign} of others"),
    };
    let warning = format!(
        "{left_out} host names are left out, {whose}: names take at most {} KiB in a hosts file. Fewer deployments that trust this \
         one, or `names = \"manual\"` on services that it does not call, make room",
        LIMIT >> 10
    );
    (kept, Some(warning))
}

/// The length of a claim's line.
fn size(claim: &Claim) -> usize {
    claim.address.to_string().len() + " ".len() + claim.name.len() + "\n".len()
}

fn places(view: &View, own: DeploymentId, claims: &[Claim]) -> impl Iterator<Item = Place> {
    let mut forms: BTreeMap<ServiceId, u32> = BTreeMap::new();
    let (mut turns, mut met) = (BTreeMap::<ServiceId, u32>::new(), BTreeMap::<DeploymentId, u32>::new());
    claims.iter().map(move |claim| match claim.rank {
        Rank::Ist | Rank::Alias => Place::Declared(claim.rank),
        Rank::Automatic => {
            let form = forms.entry(claim.service).or_default();
            *form += 1;
            Place::Own { form: *form }
        }
        Rank::Foreign => {
            let deployment = view.service(claim.service).map_or(own, |service| service.deployment);
            let turn = match turns.entry(claim.service) {
                Entry::Occupied(turn) => *turn.get(),
                Entry::Vacant(first) => {
                    let met = met.entry(deployment).or_default();
                    *met += 1;
                    *first.insert(*met)
                }
            };
            Place::Foreign { turn, deployment }
        }
    })
}
