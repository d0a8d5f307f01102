//! Restores the set-up of an attached namespace after changes by other programs.

use super::{
    Addressing, AttachError, Seen,
    error::At,
    link::{self, Link},
    namespace::{Namespace, within},
    netlink::Netlink,
    routes, rules, without_ipv6,
};

/// Checks that everything is as [`super::create`] has made it, and restores what isn't. Returns what was restored. The
/// cost doesn't depend on the rest of the namespace, except for the rules, whose number is limited.
///
/// # Errors
/// If the interface is gone, or something can't be restored.
pub(crate) fn mend(ns: &Namespace, a: &Addressing, seen: &mut Seen) -> Result<Vec<&'static str>, AttachError> {
    within(ns, || {
        let mut netlink = Netlink::open().at("opening a netlink socket")?;
        let mut mended = vec![];
        let mut note = |was_wrong: bool, what| mended.extend(was_wrong.then_some(what));
        // The range is barred first. If that fails, the rest is restored nevertheless.
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
            // Below 1280 the kernel disables IPv6 on the interface, and above it enables it again
            // (net/ipv6/addrconf.c).
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

/// Finds the attachment's interface under another name, and restores its name.
fn renamed(netlink: &mut Netlink, a: &Addressing) -> Result<Link, AttachError> {
    // Whether it is found or not, nothing may leave by another interface.
    routes::bar(netlink, a.range).at("adding the unreachable route")?;
    let found = a.mark.map(|mark| link::find_marked(netlink, mark)).transpose().at("looking for mesh0")?.flatten();
    let mut link = found.ok_or(AttachError::Gone)?;
    link::rename(netlink, link.index, link::NAME).at("giving mesh0 its name again")?;
    link.up = false;
    Ok(link)
}
