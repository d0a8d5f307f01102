//! What the lifecycle is told.

use std::sync::Arc;

use mesh_proto::{
    InstanceId, ServicePath, View,
    message::{Answer, Have, Refusal},
};

use crate::{
    AskError, CallId, ContainerId, ContainerStart, FileId, HostsPlace, Mark, NamespaceId, NamespacePlace, Nsid, OpId,
    Port, SaveId, WatchId,
};

/// A request for an instance in a namespace. What is open for it (the namespace, a hosts file) is the shell's, by the call,
/// until [`crate::Effect::Close`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachRequest {
    /// Of which service.
    pub service: ServicePath,
    /// Whether it only calls.
    pub client: bool,
    /// The namespace.
    pub namespace: NamespaceId,
    /// Where that was found.
    pub place: NamespacePlace,
    /// Where its hosts file was found.
    pub hosts: Option<HostsPlace>,
    /// Why a hosts file that is there is not to be kept.
    pub unkept: Option<Refusal>,
    /// The watch over the process whose end is the instance's.
    pub watch: Option<WatchId>,
    /// What its interface is to bear.
    pub mark: Mark,
    /// The container that asks, if one does.
    pub container: Option<ContainerStart>,
}

/// The stream to the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    /// The coordinator has welcomed this runner and is still there.
    pub connected: bool,
    /// The view is the coordinator's, as of this stream.
    pub synced: bool,
    /// The coordinator is there and refuses this runner: it has removed the runner, or this machine is a copy of another one.
    pub unknown: bool,
}

/// What the lifecycle is told.
#[derive(Debug, Clone)]
pub enum Input {
    /// The agent has started: what the one before left is taken up. Once, and first of all.
    Start(CallId),
    /// An instance is to come into a namespace.
    Attach(CallId, Box<AttachRequest>),
    /// An instance is to go.
    Detach(CallId, InstanceId),
    /// The instance of a namespace is to go.
    DetachNamespace(CallId, NamespaceId),
    /// A container has ended, known here or not.
    DetachContainer(CallId, ContainerId),
    /// All instances are to go. Who asks to attach meanwhile waits.
    DetachAll(CallId),
    /// An instance is to get no new connections, or to get them again.
    SetDraining(CallId, InstanceId, bool),
    /// A container runs without the mesh, and is tried again; `None`: not any more.
    Waits(ContainerId, Option<Refusal>),
    /// The caller doesn't wait for its answer any more. What has not been asked of the coordinator yet is not done either.
    HungUp(CallId),
    /// A process that is watched has ended.
    ProcessEnded(WatchId),
    /// A TUN has gone, with its namespace or alone.
    TunGone(Port),
    /// The view is this one now.
    View(Arc<View>),
    /// This view is in force.
    Applied(Have),
    /// The stream to the coordinator is so now.
    Link(Link),
    /// A hosts file isn't kept any more.
    HostsReleased,
    /// Another file may stand in the place of this one.
    HostsMoved(FileId),
    /// Whether changes in namespaces can be heard.
    Hearing(bool),
    /// Something has changed in the namespace with this number.
    Changed(Nsid),
    /// More has changed than could be heard.
    ChangesLost,
    /// An effect has ended so.
    Done(OpId, Outcome),
    /// The file is written up to this version, or can't be for now.
    Saved(SaveId),
}

/// How an effect has ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A step in the kernel, or at a file.
    Did(Result<(), Refusal>),
    /// A question to the coordinator.
    Answered(Result<Answer, AskError>),
    /// Whether it is so. What can't be found out is as it should be.
    Is(bool),
    /// A TUN is served.
    Serving(Port),
    /// An instance of an earlier agent was looked for.
    TakenUp(Result<TakenUp, String>),
    /// The watch over a container's process, if that is still there.
    Watching(Option<WatchId>),
    /// A hosts file was asked for.
    Hosts(HostsAnswer),
    /// A hosts file of an earlier agent was opened.
    Opened(Opened),
    /// Whether another file stands at a place by now, and may; `None`: none does.
    Moved(Option<bool>),
    /// A namespace was looked at. `None`: it is gone.
    Looked(Option<Look>),
}

/// An instance of an earlier agent that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenUp {
    /// Its TUN.
    pub port: Port,
    /// What its interface bears now.
    pub mark: Option<Mark>,
    /// The watch over its process, if it has one.
    pub watch: Option<WatchId>,
}

/// What comes of asking for a hosts file for one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostsAnswer {
    /// It is kept. The operation's number is its handle from now on.
    Kept(FileId),
    /// Another service keeps it.
    Taken {
        /// The file's name.
        hosts: String,
        /// That service.
        by: ServicePath,
        /// The file, if it isn't about to be let go already.
        there: Option<FileId>,
    },
}

/// What comes of opening a hosts file once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// It is open.
    Open,
    /// Its process is not one of the namespace any more.
    Gone,
    /// Another process holds a lease on it.
    Leased,
    /// It is none that is kept.
    Unkept(Refusal),
}

/// What comes of looking at a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The number by which changes there are heard of.
    pub nsid: Option<Nsid>,
    /// What was put back, or why that can't be.
    pub mended: Result<Vec<&'static str>, String>,
}
