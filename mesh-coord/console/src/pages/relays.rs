//! The relays.

use maud::{Markup, html};

use super::{act, head, state};
use crate::{
    frame::{Frame, Seen},
    model::{Relays, Role},
};

/// All relays.
#[must_use]
pub fn relays(frame: &Frame<'_>, relays: &Relays) -> Markup {
    let content = html! {
        table {
            caption { "Relays, " (relays.relays.len()) }
            (head(&["Name", "Kind", "State", "Addresses", "Runners with an address there", "Version", "Change"]))
            tbody {
                @for relay in &relays.relays {
                    tr {
                        th scope="row" { (relay.name) }
                        td { (relay.kind) }
                        td { (state(&relay.state)) }
                        td { (relay.udp.join(", ")) }
                        td { (relay.nodes) }
                        td { (relay.agent.as_deref().unwrap_or("–")) }
                        td { (act(frame, Role::Admin, "Remove", &relay.name, &[("do", "remove-relay"), ("relay", &*relay.name)])) }
                    }
                }
                @if relays.relays.is_empty() { tr { td colspan="7" { "none" } } }
            }
        }
        p.note { "`mesh-coord relay` runs one; `mesh-coord relay add` adds a TURN server, with its secret." }
    };
    frame.listed(Seen::Live, &content)
}
