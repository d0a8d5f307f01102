//! Policy rules (ip-rule(8)) that let the range in and out through `mesh0` and `lo` only.
//!
//! Linux accepts a packet for any of its addresses on any interface ("weak host model", RFC 1122 §3.3.4.2): without
//! these rules a neighbour on a container's bridge could reach the instance's address past the mesh, with any source.
//! So they precede the look-up of local addresses, which is the first rule by default. All of them have its priority,
//! 0, so that rules of other programs, with any priority or with one that the kernel chooses, can't precede them, and
//! the namespace's own addresses are still found first. Rules of one priority are ordered by age, so the look-up is
//! added again behind ours, and the old one is deleted (and so are other programs' rules at 0, which are added again).

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    ops::ControlFlow,
};

use mesh_proto::Range;
use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::RouteProtocol,
    rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage},
};

use super::{
    link::NAME,
    netlink::{Exists, Netlink},
    routes::{PROTOCOL, TABLE},
};

/// The routing table of the kernel's own addresses (`RT_TABLE_LOCAL`).
const LOCAL: u32 = 255;

/// The most rules that are read, of priority 0 and ours elsewhere. There are four of ours and the kernel's.
const MOST: usize = 64;

/// How often the rules are put in order before giving up because another program does the same.
const ATTEMPTS: usize = 4;

/// A policy rule, as far as ours differ from each other.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    priority: u32,
    protocol: RouteProtocol,
    iif: Option<String>,
    to: Option<(Ipv4Addr, u8)>,
    action: RuleAction,
    table: u32,
    /// Whether it has other conditions as well.
    others: bool,
}

/// The existing rules.
#[derive(Debug, Default)]
struct Present {
    /// All of priority 0, in order.
    front: Vec<RuleMessage>,
    /// Ours of another priority, from an earlier version.
    stale: Vec<RuleMessage>,
    /// Whether a rule of another program looks up local addresses.
    local: bool,
    /// There are more than are read.
    more: bool,
}

/// The rules of other programs at priority 0 behind the look-up of local addresses, at the last look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen(Option<Vec<RuleMessage>>);

/// Adds the rules for a range, and deletes those for another range. The range is never open in between. Returns whether
/// anything had to be done.
///
/// The rules at 0 that are newer than `seen` probably got that priority from the kernel: it chooses the priority before
/// the second rule, which is 0 here. VPNs expect that a later rule precedes an earlier one, so that is restored.
pub(super) fn apply(netlink: &mut Netlink, range: Range, seen: &mut Seen) -> io::Result<bool> {
    let mut changed = false;
    for _ in 0..ATTEMPTS {
        let present = look(netlink)?;
        if present.more {
            let wanted = wanted(range);
            let first = present.front.iter().map(Rule::read).take(wanted.len());
            // The rules behind ours don't matter.
            return if first.eq(wanted) { Ok(changed) } else { Err(too_many()) };
        }
        let mut others: Vec<_> = present.front.iter().filter(|rule| !Rule::read(rule).is_ours()).cloned().collect();
        if !present.local {
            // An earlier version deleted it.
            others.insert(0, first().message());
        }
        let others = in_order(others, seen.0.as_deref());
        let front = wanted(range).map(|rule| rule.message()).into_iter().chain(others.iter().cloned());
        let front: Vec<_> = front.collect();
        let same = |(wanted, found): (&RuleMessage, &RuleMessage)| match Rule::read(found) {
            found if found.is_ours() => found == Rule::read(wanted),
            _ => found == wanted,
        };
        let is_so = front.len() == present.front.len() && front.iter().zip(&present.front).all(same);
        if is_so && present.stale.is_empty() {
            seen.0 = Some(others);
            return Ok(changed);
        }
        changed = true;
        if !is_so {
            for rule in front {
                netlink.make(RouteNetlinkMessage::NewRule(rule), Exists::Repeat)?;
            }
            // The kernel deletes the first rule that matches: each of these is the first one.
            for rule in present.front {
                netlink.delete(RouteNetlinkMessage::DelRule(rule))?;
            }
            seen.0 = Some(others);
        }
        for rule in present.stale {
            netlink.delete(RouteNetlinkMessage::DelRule(rule))?;
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "something else changes them all the time"))
}

/// Deletes our rules, after the kernel's own one is restored.
pub(super) fn remove(netlink: &mut Netlink) -> io::Result<()> {
    let Present { front, stale, local, .. } = look(netlink)?;
    let ours: Vec<_> = front.into_iter().chain(stale).filter(|rule| Rule::read(rule).is_ours()).collect();
    if !ours.is_empty() && !local {
        netlink.make(RouteNetlinkMessage::NewRule(first().message()), Exists::Refuse)?;
    }
    ours.into_iter().try_for_each(|rule| netlink.delete(RouteNetlinkMessage::DelRule(rule)))
}

/// The rules of other programs at 0, in the order that they would have with priorities chosen by the kernel in a
/// namespace without an attachment: those that are newer than `seen` come behind the look-up of local addresses and
/// before the rest, the latest first.
fn in_order(present: Vec<RuleMessage>, seen: Option<&[RuleMessage]>) -> Vec<RuleMessage> {
    let Some(seen) = seen else { return present };
    let is_lookup = |rule: &RuleMessage| Rule::read(rule).is_local_lookup();
    let (mut old, new): (Vec<_>, Vec<_>) = present.into_iter().partition(|rule| is_lookup(rule) || seen.contains(rule));
    let behind = old.iter().position(is_lookup).map_or(0, |at| at + 1);
    old.splice(behind..behind, new.into_iter().rev());
    old
}

fn wanted(range: Range) -> [Rule; 3] {
    let rule = |iif: Option<&str>, action, table| Rule {
        priority: 0,
        protocol: PROTOCOL,
        iif: iif.map(str::to_owned),
        to: Some((range.first(), range.prefix())),
        action,
        table,
        others: false,
    };
    [
        rule(Some("lo"), RuleAction::ToTable, TABLE),
        rule(Some(NAME), RuleAction::ToTable, TABLE),
        rule(None, RuleAction::Blackhole, 0),
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
        table: LOCAL,
        others: false,
    }
}

fn look(netlink: &mut Netlink) -> io::Result<Present> {
    let mut request = RuleMessage::default();
    request.header.family = AddressFamily::Inet;
    netlink.gather(RouteNetlinkMessage::GetRule(request), |present: &mut Present, answer| {
        let RouteNetlinkMessage::NewRule(mut message) = answer else { return ControlFlow::Continue(()) };
        if message.header.family != AddressFamily::Inet {
            return ControlFlow::Continue(());
        }
        let rule = Rule::read(&message);
        present.local |= !rule.is_ours() && rule.is_local_lookup();
        if rule.priority != 0 && !rule.is_ours() {
            return ControlFlow::Continue(());
        }
        if present.front.len() + present.stale.len() >= MOST {
            present.more = true;
            return ControlFlow::Break(());
        }
        if rule.priority == 0 {
            // The kernel omits a priority of 0, and takes it for a request to choose one.
            message.attributes.retain(|attribute| !matches!(attribute, RuleAttribute::Priority(_)));
            message.attributes.push(RuleAttribute::Priority(0));
            message.header.flags &= RuleFlags::Invert;
            present.front.push(message);
        } else {
            present.stale.push(message);
        }
        ControlFlow::Continue(())
    })
}

fn too_many() -> io::Error {
    io::Error::other(format!("there are more than {MOST} of priority 0 (`ip rule`): delete some of them"))
}

impl Rule {
    fn is_ours(&self) -> bool {
        self.protocol == PROTOCOL
    }

    fn is_local_lookup(&self) -> bool {
        Self { priority: 0, protocol: RouteProtocol::Kernel, ..self.clone() } == first()
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
        message.attributes.extend((self.table != 0).then_some(RuleAttribute::Table(self.table)));
        message
    }

    fn read(message: &RuleMessage) -> Self {
        let mut rule = Self {
            priority: 0,
            protocol: RouteProtocol::Unspec,
            iif: None,
            to: None,
            action: message.header.action,
            table: message.header.table.into(),
            others: message.header.src_len != 0
                || message.header.tos != 0
                || message.header.flags.contains(RuleFlags::Invert),
        };
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Priority(priority) => rule.priority = *priority,
                RuleAttribute::Protocol(protocol) => rule.protocol = *protocol,
                RuleAttribute::Iifname(name) => rule.iif = Some(name.clone()),
                RuleAttribute::Destination(IpAddr::V4(to)) => rule.to = Some((*to, message.header.dst_len)),
                RuleAttribute::Table(table) => rule.table = *table,
                // Always reported; this value means "not used".
                RuleAttribute::SuppressPrefixLen(u32::MAX) | RuleAttribute::SuppressIfGroup(u32::MAX) => {}
                _ => rule.others = true,
            }
        }
        rule
    }
}
