//! Receives the changes in attached namespaces by one socket for all of them. A socket in each namespace would keep it
//! alive and cost a descriptor. (`NETLINK_LISTEN_ALL_NSID`, netlink(7): a socket gets the messages of all namespaces
//! that have a number in its own namespace.)

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use mesh_lifecycle::Nsid;
use rtnetlink::{
    packet_route::{
        RouteNetlinkMessage,
        nsid::{NsidAttribute, NsidMessage},
    },
    sys::{Socket, protocols::NETLINK_ROUTE},
};

use super::{
    AttachError, Namespace, Staging,
    error::At,
    namespace::within,
    netlink::{Exists, Netlink},
};
use crate::sys::netns::Ear;

/// The subscribed groups: `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV4_ROUTE`, `RTNLGRP_IPV4_RULE` of
/// linux/rtnetlink.h.
const GROUPS: [u32; 4] = [1, 5, 7, 8];

/// A notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// Something in this namespace has changed.
    Of(Nsid),
    /// Messages were lost, so that any namespace may have changed.
    Lost,
}

/// The subscription.
#[derive(Debug)]
pub(crate) struct Events(Ear);

impl Events {
    /// Subscribes in the agent's own namespace.
    ///
    /// # Errors
    /// Before Linux 4.2.
    pub(crate) fn new(staging: &Staging) -> Result<Self, AttachError> {
        let socket = within(staging, || listen().at("listening for changes in namespaces"))?;
        Ear::new(socket).map(Self).at("listening for changes in namespaces")
    }

    /// Waits for the next notification.
    ///
    /// # Errors
    /// If the socket fails.
    pub(crate) async fn next(&self) -> io::Result<News> {
        loop {
            match self.0.sender().await {
                Ok(Some(nsid)) => return Ok(News::Of(Nsid(nsid))),
                // From the namespace of the socket itself.
                Ok(None) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(News::Lost),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Subscribes to the changes in a namespace, and returns its number.
///
/// # Errors
/// If the kernel can't assign a number.
pub(crate) fn number(staging: &Staging, ns: &Namespace) -> Result<Nsid, AttachError> {
    within(staging, || {
        let mut netlink = Netlink::open().at("opening a netlink socket")?;
        // A namespace into which a TUN device was moved has a number already. -1: any free number.
        let message = |id: Option<i32>| {
            let mut message = NsidMessage::default();
            message.attributes.extend(id.map(NsidAttribute::Id));
            message.attributes.push(NsidAttribute::Fd(ns.as_fd().as_raw_fd().cast_unsigned()));
            message
        };
        match netlink.make(RouteNetlinkMessage::NewNsId(message(Some(-1))), Exists::Refuse) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).at("numbering a namespace");
            }
            _ => {}
        }
        let found = netlink.get(RouteNetlinkMessage::GetNsId(message(None))).at("looking for a namespace's number")?;
        let number = match found {
            Some(RouteNetlinkMessage::NewNsId(found)) => {
                found.attributes.iter().find_map(|attribute| match attribute {
                    NsidAttribute::Id(id) if *id >= 0 => Some(Nsid(*id)),
                    _ => None,
                })
            }
            _ => None,
        };
        number.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)).at("looking for a namespace's number")
    })
}

fn listen() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.set_non_blocking(true)?;
    socket.set_listen_all_namespaces(true)?;
    GROUPS.into_iter().try_for_each(|group| socket.add_membership(group))?;
    Ok(socket)
}
