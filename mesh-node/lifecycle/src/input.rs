//! What the lifecycle is told.

use std::sync::Arc;

use mesh_proto::{
    InstanceId, Release, ServicePath, View,
    message::{Answer, Have, Refusal},
};

use crate::{
    AskError, CallId, ContainerId, ContainerStart, FileId, HostsPlace, Mark, NamespaceId, NamespacePlace, Nsid, OpId,
    Port, SaveId, WatchId,
};

/// A request for an instance in a namespace. The shell keeps open what came with the call (the namespace, a hosts file)
/// until [`crate::Effect::Close`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachRequest {
    /// Of which service.
    pub service: ServicePath,
    /// Whether it only calls.
    pub client: bool,
    /// The release that it runs.
    pub release: Option<Release>,
    /// The namespace.
    pub namespace: NamespaceId,
    /// Where the namespace was found.
    pub place: NamespacePlace,
    /// Where its hosts file was found.
    pub hosts: Option<HostsPlace>,
    /// Why the names are not kept in a hosts file that is there.
    pub unkept: Option<Refusal>,
    /// The watch over the process with which the instance ends.
    pub watch: Option<WatchId>,
    /// The mark of its interface.
    pub mark: Mark,
    /// The container that asks, if one does.
    pub container: Option<ContainerStart>,
}

/// The stream to the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    /// The coordinator has welcomed this runner and is still there.
    pub connected: bool,
    /// The view came by this stream.
    pub synced: bool,
    /// The coordinator is there and refuses this runner: it has removed the runner, or this machine is a copy of
    /// another one.
    pub unknown: bool,
}

/// What the lifecycle is told.
#[derive(Debug, Clone)]
pub enum Input {
    /// The agent has started, and takes up what the earlier one left. Once, before any call.
    Start(CallId),
    /// An instance is requested for a namespace.
    Attach(CallId, Box<AttachRequest>),
    /// The end of an instance is requested.
    Detach(CallId, InstanceId),
    /// The end of the instance of a namespace is requested.
    DetachNamespace(CallId, NamespaceId),
    /// A container has ended. It may be unknown here.
    DetachContainer(CallId, ContainerId),
    /// The end of all instances is requested. Attachments that are requested meanwhile wait.
    DetachAll(CallId),
    /// New connections to an instance are to be off, or on again.
    SetDraining(CallId, InstanceId, bool),
    /// A container runs without the mesh, and its attachment is tried again; `None`: not any more.
    Waits(ContainerId, Option<Refusal>),
    /// The caller does not wait for its answer any more. If the coordinator has not been asked yet, the call is not
    /// carried out.
    HungUp(CallId),
    /// A process that is watched has ended.
    ProcessEnded(WatchId),
    /// A TUN has gone, with its namespace or alone.
    TunGone(Port),
    /// The view, from now on.
    View(Arc<View>),
    /// This view is in force.
    Applied(Have),
    /// The state of the stream to the coordinator, from now on.
    Link(Link),
    /// A hosts file is not kept any more.
    HostsReleased,
    /// Another file may have taken the place of this one.
    HostsMoved(FileId),
    /// Whether changes in namespaces can be heard.
    Hearing(bool),
    /// Something has changed in the namespace with this number.
    Changed(Nsid),
    /// More has changed than could be heard.
    ChangesLost,
    /// An effect has ended, with this outcome.
    Done(OpId, Outcome),
    /// The file was written up to this version, or can't be written for now. What it remembers works nevertheless,
    /// until the agent restarts.
    Saved(SaveId),
}

/// How an effect has ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A step in the kernel, or at a file.
    Did(Result<(), Refusal>),
    /// A question to the coordinator.
    Answered(Result<Answer, AskError>),
    /// The answer to a question. What can't be found out is answered with yes.
    Is(bool),
    /// A TUN is served.
    Serving(Port),
    /// An instance of an earlier agent was looked for.
    TakenUp(Result<TakenUp, String>),
    /// The watch over the process of a container, if the process is still there.
    Watching(Option<WatchId>),
    /// A hosts file was asked for.
    Hosts(HostsAnswer),
    /// A hosts file of an earlier agent was opened.
    Opened(Opened),
    /// Whether another file stands at a place by now, and may be written to; `None`: there is none.
    Moved(Option<bool>),
    /// A namespace was looked at. `None`: it is gone.
    Looked(Option<Look>),
}

/// An instance of an earlier agent that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenUp {
    /// Its TUN.
    pub port: Port,
    /// The mark of its interface.
    pub mark: Option<Mark>,
    /// The watch over its process, if it has one.
    pub watch: Option<WatchId>,
}

/// What comes of asking for a hosts file for one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostsAnswer {
    /// It is kept. The number of the operation is its handle from now on.
    Kept(FileId),
    /// Another service keeps it.
    Taken {
        /// The file's name.
        hosts: String,
        /// That service.
        by: ServicePath,
        /// The file, unless it is being cleared.
        there: Option<FileId>,
    },
}

/// What comes of opening a hosts file once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// It is open.
    Open,
    /// Its process is not in the namespace any more.
    Gone,
    /// Another process holds a lease on it.
    Leased,
    /// It can't be kept.
    Unkept(Refusal),
}

/// What comes of looking at a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The number of the namespace in messages about changes.
    pub nsid: Option<Nsid>,
    /// What was put back, or why that failed.
    pub mended: Result<Vec<&'static str>, String>,
}
