//! Puts back what something else in an attached namespace has changed of what we set up there.

use super::{
    Addressing, AttachError, Seen,
    error::At,
    link::{self, Link},
    namespace::{Namespace, within},
    netlink::Netlink,
    routes, rules, without_ipv6,
};

/// Looks whether all is as [`super::create`] has made it, and puts back what isn't; returns what that was. What it costs doesn't depend on what else
/// the namespace holds, but for the rules, which are counted.
///
/// # Errors
/// If the interface is gone, or something can't be put back.
pub(crate) fn mend(ns: &Namespace, a: &Addressing, seen: &mut Seen) -> Result<Vec<&'static str>, AttachError> {
    within(ns, || {
        let mut netlink = Netlink::open().at("opening a netlink socket")?;
        let mut mended = vec![];
        let mut note = |was_wrong: bool, what| mended.extend(was_wrong.then_some(what));
        // First of all: the range is barred. Where that fails the rest is seen to nevertheless.
        let rules = rules::apply(&mut netlink, a.range, seen).at("putting the policy rules back");
        note(*rules.as_ref().unwrap_or(&false), "policy rules");
        let found = link::find(&mut netlink, link::NAME).at("looking for mesh0")?.filter(Link::is_ours);
        let link = match found {
            Some(link) => link,
            None => {
                note(true, "the name of mesh0");
                renamed(&mut netlink, a)?
            }
        };
        let lo = link::find(&mut netlink, "lo").at("looking for lo")?;
        if let Some(lo) = lo.filter(|lo| !lo.up) {
            link::up(&mut netlink, lo.index).at("putting lo up")?;
            note(true, "lo, which was down");
        }
        if link.mtu != u32::from(a.mtu) {
            link::set(&mut netlink, link.index, a.mtu, a.mark).at("setting the MTU of mesh0")?;
            // Below 1280 the kernel forgets IPv6 there, and above it switches it on anew (net/ipv6/addrconf.c).
            without_ipv6(&mut netlink, link.index);
            note(true, "the MTU of mesh0");
        }
        if !link.up {
            link::up(&mut netlink, link.index).at("putting mesh0 up")?;
            without_ipv6(&mut netlink, link.index);
            note(true, "mesh0, which was down");
        }
        let missing = routes::mend(&mut netlink, link.index, a.range, [a.instance, a.service])
            .at("putting the addresses and routes of mesh0 back")?;
        note(missing.addresses, "addresses of mesh0");
        note(missing.routes, "routes");
        rules.map(|_| mended)
    })
}

/// The interface of the attachment, if it is there by another name; it has its own again.
fn renamed(netlink: &mut Netlink, a: &Addressing) -> Result<Link, AttachError> {
    // Nothing is to leave by another interface, found or not.
    routes::bar(netlink, a.range).at("adding the unreachable route")?;
    let found = a.mark.map(|mark| link::find_marked(netlink, mark)).transpose().at("looking for mesh0")?.flatten();
    let mut link = found.ok_or(AttachError::Gone)?;
    link::rename(netlink, link.index, link::NAME).at("giving mesh0 its name again")?;
    link.up = false;
    Ok(link)
}
