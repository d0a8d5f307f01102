//! The end of all instances, as when the runner leaves the mesh.

use std::collections::{BTreeSet, VecDeque};

use crate::{
    CallId, Lifecycle, NamespaceId, Reply, Shown,
    lifecycle::Context,
    space::{Attach, Job},
};

/// Whether all instances are just going, and what waits for that.
#[derive(Debug, Default)]
pub(crate) struct Clearing {
    running: Option<Running>,
    /// Those who ask for the same once more.
    next: VecDeque<CallId>,
    attaches: Vec<Attach>,
}

#[derive(Debug)]
struct Running {
    call: CallId,
    left: BTreeSet<NamespaceId>,
    ended: Vec<Shown>,
}

impl Clearing {
    /// Keeps an attachment until all are gone; returns it if none are going.
    pub(crate) fn holds_back(&mut self, attach: Attach) -> Option<Attach> {
        if self.running.is_none() {
            return Some(attach);
        }
        self.attaches.push(attach);
        None
    }

    pub(crate) fn is_queued(&self, call: CallId) -> bool {
        self.attaches.iter().any(|attach| attach.call == call)
    }
}

impl Lifecycle {
    pub(crate) fn detach_all(&mut self, call: CallId, _cx: &mut Context<'_>) {
        if self.clearing.running.is_some() {
            return self.clearing.next.push_back(call);
        }
        let left: BTreeSet<NamespaceId> = self.spaces.keys().copied().collect();
        // What is being attached already comes to its end first.
        left.iter().for_each(|namespace| self.queue(*namespace, Job::DetachForAll));
        self.clearing.running = Some(Running { call, left, ended: vec![] });
    }

    pub(crate) fn detached_for_all(&mut self, namespace: NamespaceId, shown: Option<Shown>) {
        if let Some(running) = &mut self.clearing.running {
            running.left.remove(&namespace);
            running.ended.extend(shown);
        }
    }

    /// Looks whether all are gone.
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
