//! One runner: what it hosts, and what can be done to it.

use maud::{Markup, html};

use super::{act, head, service::turn, service_link, state};
use crate::{
    frame::{Frame, Seen},
    model::{Instance, Node, Role},
    words::ago,
};

/// The offloads that can be turned off, with what they are.
const OFFLOADS: [(&str, &str); 3] = [
    ("tun-gso", "TCP super-packets on TUN devices"),
    ("udp-gso", "UDP_SEGMENT on send"),
    ("udp-gro", "UDP_GRO on receive"),
];

/// The page.
#[must_use]
pub fn runner(frame: &Frame<'_>, node: &Node, instances: &[Instance]) -> Markup {
    let content = html! {
        dl.facts {
            div { dt { "State" } dd { (state(&node.state)) @if node.drained { ", drained" } } }
            div {
                dt { "Last heard" }
                dd {
                    @match node.last_seen_seconds {
                        _ if node.state == "online" => "now",
                        Some(seconds) => (ago(seconds)),
                        None => "not since the coordinator's start",
                    }
                }
            }
            div { dt { "Provider" } dd { (node.provider) } }
            div { dt { "May host" } dd { (node.scope) } }
            div { dt { "Agent" } dd { @if node.agent.is_empty() { "–" } @else { (node.agent) } } }
            div { dt { "Addresses" } dd { (node.endpoints.join(", ")) } }
        }
        p #change {
            @if node.state != "removed" {
                @if node.drained {
                    (act(frame, Role::Operator, "Undrain", &node.name, &[("do", "undrain-node"), ("node", &*node.name)]))
                } @else {
                    (act(frame, Role::Operator, "Drain", &node.name, &[("do", "drain-node"), ("node", &*node.name)]))
                }
                " "
                (act(frame, Role::Admin, "Remove", &node.name, &[("do", "remove-node"), ("node", &*node.name)]))
            }
        }
        table #instances {
            caption { "Instances, " (instances.len()) }
            (head(&["Instance", "Service", "Address", "State", "Change"]))
            tbody {
                @for instance in instances {
                    tr {
                        th scope="row" { (instance.id) }
                        td { (service_link(&instance.service)) }
                        td { code { (instance.address) } }
                        td { (state(&instance.state)) }
                        td { (turn(frame, &instance.id, &instance.state)) }
                    }
                }
                @if instances.is_empty() { tr { td colspan="5" { "none" } } }
            }
        }
        table #offloads {
            caption { "Offloads, in case a kernel corrupts packets with one" }
            (head(&["Offload", "What it is", "Switch", "Change"]))
            tbody {
                @for (name, what) in OFFLOADS {
                    @let off = node.off.iter().any(|off| off == name);
                    tr {
                        th scope="row" { (name) }
                        td { (what) }
                        td { @if off { "off" } @else { "on, if the kernel has it" } }
                        td {
                            @let (label, on) = if off { ("Turn on", "on") } else { ("Turn off", "off") };
                            (act(frame, Role::Admin, label, name, &[
                                ("do", "switch"), ("offload", name), ("on", on), ("node", &*node.name),
                            ]))
                        }
                    }
                }
            }
        }
    };
    frame.page(&node.name, Seen::Live, &content)
}
