//! Interfaces: finding, setting, moving and deleting them.

use std::{
    io,
    ops::ControlFlow,
    os::fd::{AsFd, AsRawFd},
};

use mesh_lifecycle::Mark;
use rtnetlink::{
    packet_core::Nla,
    packet_route::{
        RouteNetlinkMessage,
        link::{
            AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, LinkAttribute, LinkFlags, LinkInfo,
            LinkMessage,
        },
    },
};

use super::{mark::alias, netlink::Netlink};

/// The interface's name in every instance's namespace.
pub(super) const NAME: &str = "mesh0";

/// The owner of our TUN devices: a user that doesn't exist, so that only processes with `CAP_NET_ADMIN` can attach to
/// one. (The number is from the upper half, which no distribution or container runtime assigns, and isn't 65534 or -2,
/// "nobody".)
pub(super) const OWNER: u32 = 0xffff_6d65;

/// The most packets that wait for the data plane in a TUN. (The kernel's default is 500.)
const QUEUE: u32 = 1000;

/// An interface.
#[derive(Debug)]
pub(super) struct Link {
    /// Its number, in its namespace.
    pub(super) index: u32,
    /// The owner of a TUN device, if it has one.
    tun: Option<Option<u32>>,
    /// Its kind, in words.
    kind: String,
    alias: Option<String>,
    /// Whether it is up.
    pub(super) up: bool,
    /// Its MTU in bytes.
    pub(super) mtu: u32,
    /// For a TUN device: whether a process has its queue open.
    pub(super) served: bool,
}

impl Link {
    /// Whether an agent made it: a TUN device with our owner.
    pub(super) fn is_ours(&self) -> bool {
        // In a user namespace that doesn't know our owner, the agent's own user replaces it.
        self.tun.is_some_and(|owner| owner == Some(OWNER) || owner == Some(nix::unistd::geteuid().as_raw()))
    }

    /// Whether it belongs to the attachment with this mark.
    pub(super) fn bears(&self, mark: Mark) -> bool {
        self.alias.as_ref().is_some_and(|found| *found == alias(mark))
    }

    /// Its description for an error.
    pub(super) fn describe(&self) -> String {
        match self.tun {
            Some(Some(owner)) => format!("a TUN device of user {owner}"),
            Some(None) => "a TUN device without owner".to_owned(),
            None => format!("of kind `{}`", self.kind),
        }
    }
}

/// Finds an interface by its name.
pub(super) fn find(netlink: &mut Netlink, name: &str) -> io::Result<Option<Link>> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    match netlink.get(RouteNetlinkMessage::GetLink(message)) {
        Ok(Some(RouteNetlinkMessage::NewLink(link))) => Ok(Some(read(&link))),
        Ok(_) => Err(io::ErrorKind::InvalidData.into()),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How many packets have left by an interface.
pub(super) fn sent(netlink: &mut Netlink, name: &str) -> io::Result<u64> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    let Some(RouteNetlinkMessage::NewLink(link)) = netlink.get(RouteNetlinkMessage::GetLink(message))? else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let sent = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Stats64(stats) => Some(stats.tx_packets),
        _ => None,
    });
    Ok(sent.unwrap_or_default())
}

/// Finds the interface of an attachment by its mark, whatever its name is.
pub(super) fn find_marked(netlink: &mut Netlink, mark: Mark) -> io::Result<Option<Link>> {
    netlink.gather(RouteNetlinkMessage::GetLink(LinkMessage::default()), |found, answer| match answer {
        RouteNetlinkMessage::NewLink(link)
            if Some(read(&link)).is_some_and(|link| link.is_ours() && link.bears(mark)) =>
        {
            *found = Some(read(&link));
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    })
}

/// Sets the mark, the MTU, and how much TCP may put into one super-packet: as much as fits one batch of datagrams, so
/// that each read of the TUN makes one send.
pub(super) fn set(netlink: &mut Netlink, index: u32, mtu: u16, mark: Option<Mark>) -> io::Result<()> {
    let mut message = message(index);
    message.attributes.push(LinkAttribute::Mtu(mtu.into()));
    message.attributes.push(LinkAttribute::TxQueueLen(QUEUE));
    message.attributes.push(LinkAttribute::GsoMaxSegs(segments(mtu)));
    message.attributes.extend(mark.map(|mark| LinkAttribute::IfAlias(alias(mark))));
    netlink.change(RouteNetlinkMessage::SetLink(message))
}

/// Moves an interface to another namespace and renames it. It arrives down, without addresses and routes.
pub(super) fn move_to(netlink: &mut Netlink, index: u32, namespace: impl AsFd, name: &str) -> io::Result<()> {
    let mut message = message(index);
    message.attributes.push(LinkAttribute::NetNsFd(namespace.as_fd().as_raw_fd()));
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    netlink.change(RouteNetlinkMessage::SetLink(message))
}

/// Sets an interface up.
pub(super) fn up(netlink: &mut Netlink, index: u32) -> io::Result<()> {
    let mut message = message(index);
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    netlink.change(RouteNetlinkMessage::SetLink(message))
}

/// Renames an interface, which has to be down.
pub(super) fn rename(netlink: &mut Netlink, index: u32, name: &str) -> io::Result<()> {
    let mut down = message(index);
    down.header.change_mask = LinkFlags::Up;
    netlink.change(RouteNetlinkMessage::SetLink(down))?;
    let mut message = message(index);
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    netlink.change(RouteNetlinkMessage::SetLink(message))
}

/// Keeps IPv6 from assigning addresses to an interface. IPv6 itself stays on, so that switching it off is better.
pub(super) fn without_ipv6_addresses(netlink: &mut Netlink, index: u32) -> io::Result<()> {
    let mode = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let mut message = message(index);
    message.attributes.push(LinkAttribute::AfSpecUnspec(vec![mode]));
    netlink.change(RouteNetlinkMessage::SetLink(message))
}

/// Deletes an interface.
pub(super) fn delete(netlink: &mut Netlink, index: u32) -> io::Result<()> {
    netlink.delete(RouteNetlinkMessage::DelLink(message(index)))
}

/// How many TCP segments make one batch of WireGuard datagrams.
fn segments(mtu: u16) -> u32 {
    // WireGuard pads to 16 bytes and adds a header of 16 and a tag of 16.
    let datagram = usize::from(mtu).next_multiple_of(16) + 32;
    (mesh_engine::MAX_BATCH / datagram).clamp(1, mesh_engine::MAX_SEGMENTS) as u32
}

fn message(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

fn read(message: &LinkMessage) -> Link {
    let index = message.header.index;
    let up = message.header.flags.contains(LinkFlags::Up);
    let kind = "physical".to_owned();
    let mut link = Link { index, tun: None, kind, alias: None, up, mtu: 0, served: false };
    let (mut data, mut is_tun) = (None, false);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Carrier(carrier) => link.served = *carrier != 0,
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(kind) => {
                            is_tun = *kind == InfoKind::Tun;
                            link.kind = kind.to_string();
                        }
                        LinkInfo::Data(InfoData::Tun(tun)) => data = Some(tun),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if is_tun {
        // IFLA_TUN_OWNER of linux/if_link.h: a u32, absent without an owner.
        let owner = data.into_iter().flatten().find(|nla| nla.kind() == 1 && nla.value_len() == 4);
        link.tun = Some(owner.map(|nla| {
            let mut value = [0; 4];
            nla.emit_value(&mut value);
            u32::from_ne_bytes(value)
        }));
    }
    link
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_super_packet_fills_one_batch_and_no_more() {
        assert_eq!(segments(1344), 47);
        for mtu in [68, 576, 1280, 1344, 1343, 1408, 1420, 9000, u16::MAX] {
            let datagram = usize::from(mtu).next_multiple_of(16) + 32;
            let segments = segments(mtu) as usize;
            assert!(segments == 1 || segments * datagram <= mesh_engine::MAX_BATCH, "{mtu}");
            assert!(
                segments == mesh_engine::MAX_SEGMENTS || (segments + 1) * datagram > mesh_engine::MAX_BATCH,
                "{mtu}"
            );
        }
    }
}
