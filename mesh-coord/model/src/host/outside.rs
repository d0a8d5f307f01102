//! What runners tell of their addresses outside. An address that peers can't use is left out and not refused: a relay
//! or a NAT has made it, and not the runner's operator.

use std::net::SocketAddr;

use super::{canonical, is_shown};
use crate::{
    Refusal, State, limits,
    record::{Outside, Runner},
    refusal::at_most,
};

/// What peers can use of it, without duplicates: no reflexive address that is an endpoint already, and one relayed
/// address at each relay of this mesh.
pub(super) fn usable(
    state: &State,
    runner: &Runner,
    seen: Option<SocketAddr>,
    endpoints: &[SocketAddr],
    told: &Outside,
) -> Result<Outside, Refusal> {
    let whose = || format!("the runner `{}`", runner.name);
    at_most(limits::REFLEXIVE, told.reflexive.len(), "reflexive addresses", whose())?;
    at_most(limits::RELAYED, told.relayed.len(), "relayed addresses", whose())?;
    let range = state.meta.network.range;
    let can_be = |address: SocketAddr| is_shown(address, seen, range) == Ok(true);
    let mut usable = Outside { nat: told.nat, ..Outside::default() };
    for address in told.reflexive.iter().filter(|address| can_be(**address)).map(|address| canonical(*address)) {
        if !endpoints.contains(&address) && !usable.reflexive.contains(&address) {
            usable.reflexive.push(address);
        }
    }
    for mut relayed in told.relayed.iter().filter(|relayed| can_be(relayed.address)).copied() {
        relayed.address = canonical(relayed.address);
        if state.relays.contains_key(&relayed.relay) && usable.relayed.iter().all(|other| other.relay != relayed.relay)
        {
            usable.relayed.push(relayed);
        }
    }
    Ok(usable)
}
