//! Keeps the network of each instance's namespace as it was set up, whatever else changes networks there. What
//! something changes all the time is put back less and less often, and shown in `status`.

use std::time::Instant;

use crate::{
    Effect, KernelStep, Lifecycle, Look, NamespaceId, Notice, Nsid,
    state::{
        Context,
        space::State,
        standing::{Doing, Standing, Upkeep},
    },
};

impl Lifecycle {
    fn upkeeps(&mut self) -> impl Iterator<Item = (NamespaceId, &mut Upkeep)> {
        self.spaces.iter_mut().filter_map(|(namespace, space)| match &mut space.state {
            State::Standing(standing) => Some((*namespace, standing.upkeep.as_mut()?)),
            _ => None,
        })
    }

    /// Something has changed in the namespace with this number.
    pub(crate) fn changed(&mut self, nsid: Nsid, now: Instant) {
        let concerned = self.upkeeps().filter(|(_, upkeep)| upkeep.may_be(nsid));
        concerned.for_each(|(_, upkeep)| upkeep.pace.heard(now));
    }

    /// All namespaces are looked at.
    pub(crate) fn heard_of_all(&mut self, now: Instant) {
        self.upkeeps().for_each(|(_, upkeep)| upkeep.pace.heard(now));
    }

    /// Looks at a namespace that is at rest, if that is due.
    pub(crate) fn mend_if_due(&mut self, namespace: NamespaceId, cx: &mut Context<'_>) {
        let Some(standing) = self.standing_mut(namespace) else { return };
        let Some(upkeep) = standing.upkeep.as_mut().filter(|upkeep| upkeep.pace.due().is_some_and(|due| due <= cx.now))
        else {
            return;
        };
        upkeep.pace.begins();
        let step = KernelStep::Mend(Box::new(standing.attachment.clone()), upkeep.nsid);
        standing.doing = Doing::Mending;
        self.kernel(namespace, step, cx);
    }

    /// Notes what a look has found, and logs it.
    pub(crate) fn looked(
        &mut self,
        namespace: NamespaceId,
        mut standing: Standing,
        look: Option<Look>,
        cx: &mut Context<'_>,
    ) {
        standing.doing = Doing::Nothing;
        match (look, &mut standing.upkeep) {
            (Some(Look { nsid, mended }), Some(upkeep)) => {
                upkeep.nsid = nsid.or(upkeep.nsid);
                // The kernel gives numbers again.
                let stale = self.upkeeps().filter(|(_, other)| nsid.is_some() && other.nsid == nsid);
                stale.for_each(|(_, other)| other.nsid = None);
                match mended {
                    Ok(mended) => standing.mended(&mended, cx),
                    Err(why) => standing.not_mended(why, cx),
                }
            }
            // The namespace is gone, or not attached any more.
            _ => {
                standing.upkeep = None;
                (standing.said.addresses, standing.said.network) = (None, None);
            }
        }
        self.stand(namespace, standing);
    }
}

impl Standing {
    fn mended(&mut self, mended: &[&'static str], cx: &mut Context<'_>) {
        let Some(upkeep) = &mut self.upkeep else { return };
        let (instance, was_fighting) = (self.attachment.instance, upkeep.pace.fights());
        upkeep.pace.looked(cx.now, !mended.is_empty());
        let what = mended.join(", ");
        if !upkeep.pace.fights() {
            self.said.network = None;
            if !mended.is_empty() {
                cx.push(Effect::Log(Notice::Mended { instance, what }));
            }
            return;
        }
        if !mended.is_empty() {
            let (count, pause) = (upkeep.pace.strikes(), upkeep.pace.pause().as_secs().max(1));
            self.said.network = Some(format!(
                "something in its namespace keeps changing what the mesh set up there ({what}): put back {count} times, and again \
                 only after {pause} s; `ip monitor` in there shows what it is"
            ));
        }
        if !was_fighting {
            cx.push(Effect::Log(Notice::Fights { instance, what }));
        }
    }

    fn not_mended(&mut self, why: String, cx: &mut Context<'_>) {
        if let Some(upkeep) = &mut self.upkeep {
            upkeep.pace.looked(cx.now, true);
        }
        let trouble = Some(format!("its network is not as the mesh set it up: {why}"));
        if std::mem::replace(&mut self.said.network, trouble.clone()) != trouble {
            cx.push(Effect::Log(Notice::NotMended { instance: self.attachment.instance, why }));
        }
    }
}
