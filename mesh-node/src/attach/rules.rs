//! Policy rules (ip-rule(8)) that let the range in and out through `mesh0` and `lo` only.
//!
//! Linux takes a packet for any of its addresses from any interface ("weak host model", RFC 1122 §3.3.4.2): without
//! these a neighbour on a container's bridge could reach the instance's address past the mesh, with a source of its
//! choice. The look-up of local addresses stands first by default, so it is moved behind them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
};

use mesh_proto::Range;
use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::RouteProtocol,
    rule::{RuleAction, RuleAttribute, RuleMessage},
};

use super::{
    link::NAME,
    netlink::{Exists, Netlink},
    routes::PROTOCOL,
};

/// The routing table of the kernel's own addresses (`RT_TABLE_LOCAL`).
const LOCAL: u32 = 255;

/// Where look-ups for what may pass go on.
const PASS: u32 = 100;

/// A policy rule, as far as ours differ from each other.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    priority: u32,
    protocol: RouteProtocol,
    iif: Option<String>,
    to: Option<(Ipv4Addr, u8)>,
    action: RuleAction,
    goto: Option<u32>,
    table: u32,
    /// Whether it asks for anything else as well.
    others: bool,
}

/// Puts the rules for a range in place, and those for another range away. At no instant is the range open.
pub(super) fn apply(netlink: &mut Netlink, range: Range) -> io::Result<()> {
    let (wanted, present) = (wanted(range), dump(netlink)?);
    for rule in wanted.iter().filter(|rule| !present.contains(rule)) {
        netlink.make(RouteNetlinkMessage::NewRule(rule.message()), Exists::Refuse)?;
    }
    for rule in present.iter().filter(|rule| (rule.protocol == PROTOCOL && !wanted.contains(rule)) || rule.is_first()) {
        netlink.delete(RouteNetlinkMessage::DelRule(rule.message()))?;
    }
    Ok(())
}

/// Takes our rules away, after the kernel's own has been put back.
pub(super) fn remove(netlink: &mut Netlink) -> io::Result<()> {
    let present = dump(netlink)?;
    let (ours, others): (Vec<_>, Vec<_>) = present.into_iter().partition(|rule| rule.protocol == PROTOCOL);
    if !ours.is_empty() && !others.iter().any(Rule::is_local_lookup) {
        netlink.make(RouteNetlinkMessage::NewRule(first().message()), Exists::Refuse)?;
    }
    ours.iter().try_for_each(|rule| netlink.delete(RouteNetlinkMessage::DelRule(rule.message())))
}

/// In the order in which they have to be made: where a `goto` leads has to be there first.
fn wanted(range: Range) -> [Rule; 4] {
    let rule = |priority, iif: Option<&str>, action| Rule {
        priority,
        protocol: PROTOCOL,
        iif: iif.map(str::to_owned),
        to: Some((range.first(), range.prefix())),
        action,
        goto: (action == RuleAction::Goto).then_some(PASS),
        table: 0,
        others: false,
    };
    [
        Rule { to: None, table: LOCAL, ..rule(PASS, None, RuleAction::ToTable) },
        rule(10, Some("lo"), RuleAction::Goto),
        rule(11, Some(NAME), RuleAction::Goto),
        rule(12, None, RuleAction::Blackhole),
    ]
}

/// The kernel's own rule (`fib_default_rules_init` of net/ipv4/fib_rules.c).
const fn first() -> Rule {
    Rule {
        priority: 0,
        protocol: RouteProtocol::Kernel,
        iif: None,
        to: None,
        action: RuleAction::ToTable,
        goto: None,
        table: LOCAL,
        others: false,
    }
}

fn dump(netlink: &mut Netlink) -> io::Result<Vec<Rule>> {
    let mut request = RuleMessage::default();
    request.header.family = AddressFamily::Inet;
    let answers = netlink.dump(RouteNetlinkMessage::GetRule(request))?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewRule(rule) if rule.header.family == AddressFamily::Inet => Some(Rule::read(&rule)),
            _ => None,
        })
        .collect())
}

impl Rule {
    fn is_local_lookup(&self) -> bool {
        Self { priority: 0, protocol: RouteProtocol::Kernel, ..self.clone() } == first()
    }

    /// Whether it is the look-up of local addresses before all others, whoever made it.
    fn is_first(&self) -> bool {
        self.priority == 0 && self.is_local_lookup()
    }

    fn message(&self) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.action = self.action;
        message.header.table = u8::try_from(self.table).unwrap_or_default();
        message.attributes.push(RuleAttribute::Priority(self.priority));
        message.attributes.push(RuleAttribute::Protocol(self.protocol));
        if let Some((address, prefix)) = self.to {
            message.header.dst_len = prefix;
            message.attributes.push(RuleAttribute::Destination(IpAddr::V4(address)));
        }
        message.attributes.extend(self.iif.clone().map(RuleAttribute::Iifname));
        message.attributes.extend(self.goto.map(RuleAttribute::Goto));
        message
    }

    fn read(message: &RuleMessage) -> Self {
        let mut rule = Self {
            priority: 0,
            protocol: RouteProtocol::Unspec,
            iif: None,
            to: None,
            action: message.header.action,
            goto: None,
            table: message.header.table.into(),
            others: message.header.src_len != 0 || message.header.tos != 0,
        };
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Priority(priority) => rule.priority = *priority,
                RuleAttribute::Protocol(protocol) => rule.protocol = *protocol,
                RuleAttribute::Iifname(name) => rule.iif = Some(name.clone()),
                RuleAttribute::Destination(IpAddr::V4(to)) => rule.to = Some((*to, message.header.dst_len)),
                RuleAttribute::Goto(priority) => rule.goto = Some(*priority),
                RuleAttribute::Table(table) => rule.table = *table,
                // Always told; this value says "not used".
                RuleAttribute::SuppressPrefixLen(u32::MAX) | RuleAttribute::SuppressIfGroup(u32::MAX) => {}
                _ => rule.others = true,
            }
        }
        rule
    }
}
