//! The end of all instances, as when the runner leaves the mesh.

use std::collections::BTreeSet;

use crate::{
    CallId, Lifecycle, NamespaceId, Reply, Shown,
    state::{Context, clearing::Running, space::Job},
};

impl Lifecycle {
    pub(crate) fn detach_all(&mut self, call: CallId, _cx: &mut Context<'_>) {
        if self.clearing.running.is_some() {
            return self.clearing.next.push_back(call);
        }
        let left: BTreeSet<NamespaceId> = self.spaces.keys().copied().collect();
        // An attachment that is under way is finished first.
        left.iter().for_each(|namespace| self.queue(*namespace, Job::DetachForAll));
        self.clearing.running = Some(Running { call, left, ended: vec![] });
    }

    pub(crate) fn detached_for_all(&mut self, namespace: NamespaceId, shown: Option<Shown>) {
        if let Some(running) = &mut self.clearing.running {
            running.left.remove(&namespace);
            running.ended.extend(shown);
        }
    }

    /// Answers when all are gone.
    pub(crate) fn advance_clearing(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(running) = self.clearing.running.take_if(|running| running.left.is_empty()) else { return false };
        let mut ended = running.ended;
        ended.sort_by_key(|shown| shown.attachment.instance);
        self.reply(running.call, Ok(Reply::AllDetached(ended)), cx);
        match self.clearing.next.pop_front() {
            Some(call) => self.detach_all(call, cx),
            None => std::mem::take(&mut self.clearing.attaches).into_iter().for_each(|attach| self.submit(attach)),
        }
        true
    }
}
