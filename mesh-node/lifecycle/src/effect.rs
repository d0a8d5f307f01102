//! What the lifecycle wants done. The shell begins effects in this order. An effect with an [`OpId`] ends as
//! [`crate::Input::Done`].

use std::{net::Ipv4Addr, sync::Arc};

use mesh_proto::{
    InstanceId, Label, Range, ServicePath,
    message::{Ask, Refusal},
};

use crate::{
    Attachment, CallId, Error, Farewell, FileId, HostsPlace, Mark, NamespaceId, Nsid, OpId, Port, SaveId, Shown,
    WatchId,
};

/// The names in a hosts file, by line; all instances of a service share them.
pub type HostLines = Arc<[(Ipv4Addr, String)]>;

/// Something to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Answers a call.
    Reply(CallId, Result<Reply, Error>),
    /// Closes what is open for a call.
    Close(CallId),
    /// Writes [`crate::Lifecycle::remembered`] in place of the last file, as it is when the write begins: one write is
    /// enough for all that were asked for by then. Ends as [`crate::Input::Saved`] of the last of them.
    Save(SaveId),
    /// Writes to the log.
    Log(Notice),
    /// Asks the coordinator: [`crate::Outcome::Answered`].
    Ask(OpId, Ask),
    /// The next attempt at a stream is made at once.
    HurryStream,
    /// An instance of an earlier agent has ended: no connection is to wait for it.
    Departed(InstanceId),
    /// Ends the watch over a process.
    Unwatch(WatchId),
    /// Closes a TUN.
    StopServing(Port),
    /// Serves the TUN that was made last in a namespace: [`crate::Outcome::Serving`].
    Serve(OpId, NamespaceId, InstanceId),
    /// What is done in the kernel.
    Kernel(OpId, KernelStep),
    /// Keeps the open hosts file of a call, or of an earlier operation, for a service: [`crate::Outcome::Hosts`], at
    /// once. This operation is the handle of the file from then on.
    KeepHosts(OpId, HostsSource, ServicePath),
    /// Writes names into a hosts file that is kept: [`crate::Outcome::Did`].
    PutNames(OpId, OpId, HostLines),
    /// The same, without an answer.
    RenewNames(OpId, InstanceId, HostLines),
    /// Takes the names out of a hosts file, and closes the handle. It is under way when the next effect begins:
    /// [`crate::Outcome::Did`].
    ClearNames(OpId, OpId),
    /// Closes a handle and leaves the file as it is.
    CloseHosts(OpId),
    /// Opens a hosts file that was kept before. If it is found by a process, that must be in this namespace:
    /// [`crate::Outcome::Opened`].
    OpenHosts(OpId, HostsPlace, NamespaceId),
    /// Closes what [`Effect::OpenHosts`] has opened.
    CloseOpened(OpId),
    /// Looks whether another file than that of this handle stands at a place: [`crate::Outcome::Moved`].
    CompareHosts(OpId, HostsPlace, OpId),
}

/// Where a hosts file comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostsSource {
    /// It came with a call.
    Call(CallId),
    /// [`Effect::OpenHosts`] has opened it.
    Opened(OpId),
}

/// Where a `mesh0` is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Birthplace {
    /// In staging: its queue does not keep the namespace alive, so that the end of the namespace shows.
    Staging,
    /// In the namespace itself, which is quicker: for an instance whose end shows in another way, as by the end of a
    /// process.
    There,
}

/// A step in the kernel. Each can be repeated.
#[derive(Debug, Clone, PartialEq)]
pub enum KernelStep {
    /// Whether the `mesh0` of an attachment is in the namespace of a call: [`crate::Outcome::Is`].
    Holds(CallId, Option<Mark>),
    /// Whether a namespace has addresses of the range otherwise in use: [`crate::Outcome::Did`].
    FindClash(CallId, Range),
    /// Makes a `mesh0` ahead of its addresses: [`crate::Outcome::Did`].
    Prepare(CallId, Birthplace),
    /// Takes that back: [`crate::Outcome::Did`].
    Discard(CallId),
    /// Gives it addresses, routes and rules. If that fails, the namespace is as before: [`crate::Outcome::Did`].
    Create(CallId, Box<Attachment>),
    /// Gives the `mesh0` of an attachment to the next instance, or makes one: [`crate::Outcome::Did`].
    Replace(Box<Attachment>),
    /// Gives it other addresses; looks for a clash if `new_range`: [`crate::Outcome::Did`].
    Readdress {
        /// With the new addresses.
        attachment: Box<Attachment>,
        /// The range is another one than before.
        new_range: bool,
    },
    /// Ends the connections that the namespace has at the instance's addresses: [`crate::Outcome::Did`].
    EndConnections(Box<Attachment>),
    /// Takes `mesh0` out: [`crate::Outcome::Did`].
    Remove(Box<Attachment>, Farewell),
    /// Takes up an instance of an earlier agent, and serves it: [`crate::Outcome::TakenUp`].
    TakeUp(Box<Attachment>),
    /// Whether a process is in the namespace: [`crate::Outcome::Is`].
    IsInhabited(NamespaceId),
    /// Watches a container's process, if it is one of the namespace: [`crate::Outcome::Watching`].
    WatchProcess(i32, NamespaceId),
    /// Puts back what another program has changed: [`crate::Outcome::Looked`].
    Mend(Box<Attachment>, Option<Nsid>),
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The instances and containers of an earlier agent are taken up.
    Started,
    /// The instance is there. The runners that may not know it yet.
    Attached(Shown, Vec<Label>),
    /// The instance has ended.
    Detached(Shown),
    /// The container has let go. The instance that ended with it, if one did.
    ContainerDetached(Option<Shown>),
    /// All these instances have ended.
    AllDetached(Vec<Shown>),
    /// New connections are off or on. The runners that may not know it yet.
    DrainingSet(Shown, Vec<Label>),
}

/// Why an instance ended, in the words of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// A caller asked for it.
    Asked,
    /// The process is gone.
    ProcessEnded,
    /// The interface is gone.
    InterfaceGone,
    /// The last container is gone.
    ContainerEnded,
    /// The log has said it already.
    Unsaid,
}

/// A message for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the log, and the shell's texts say what each means")]
pub enum Notice {
    /// An instance is attached without its names in a hosts file.
    Unkept { service: ServicePath, why: Refusal },
    /// An instance is there.
    Attached { instance: InstanceId, service: ServicePath, address: Ipv4Addr },
    /// An instance has ended.
    Detached { instance: InstanceId, service: ServicePath, reason: EndReason },
    /// An ended instance is taken over.
    TakingOver { instance: InstanceId, service: ServicePath },
    /// No new connections, or again.
    DrainingSet { instance: InstanceId, service: ServicePath, draining: bool },
    /// An administrator of the coordinator has turned new connections off or on.
    DrainLearned { instance: InstanceId, service: ServicePath, draining: bool },
    /// A name is left out of a hosts file.
    NameLeftOut { instance: InstanceId, service: ServicePath, warning: String },
    /// More names are.
    MoreNamesLeftOut { instance: InstanceId, service: ServicePath, more: usize },
    /// An instance has other addresses.
    Readdressed { instance: InstanceId, address: Ipv4Addr },
    /// An instance can't be given other addresses.
    NotReaddressed { instance: InstanceId, why: Refusal },
    /// The coordinator doesn't have an instance any more, and gives no other.
    NotGivenAnew { instance: InstanceId, service: ServicePath, why: Refusal },
    /// The coordinator has given another one.
    AttachedAnew { old: InstanceId, new: InstanceId, service: ServicePath, address: Ipv4Addr },
    /// The interface can't be given to the other one.
    NotAttachedAnew { old: InstanceId, service: ServicePath, why: String },
    /// A drained instance takes connections again.
    DrainLost { instance: InstanceId, why: Refusal },
    /// Connections of an ended instance may be left.
    NotSilenced { instance: InstanceId, why: Refusal },
    /// The `mesh0` of an ended instance may be left.
    NotRemoved { instance: InstanceId, why: Refusal },
    /// An instance of an earlier agent is there.
    TakenUp { instance: InstanceId, service: ServicePath },
    /// An instance of an earlier agent is not there any more.
    NotTakenUp { instance: InstanceId, service: ServicePath, why: String },
    /// Another service keeps a hosts file of an earlier agent.
    HostsLater { service: ServicePath, why: Refusal },
    /// A hosts file of an earlier agent can't be kept.
    HostsUnkept { service: ServicePath, why: Refusal },
    /// Names can't be written.
    HostsStale { service: ServicePath, place: HostsPlace, why: Refusal },
    /// Names can't be taken out.
    HostsNotCleared { place: HostsPlace, why: Refusal },
    /// The start does not wait any longer for instances and containers of an earlier agent.
    TakeUpSlow { left: usize },
    /// The start does not wait any longer for a hosts file.
    HostsSlow,
    /// Something else had changed a namespace, and that was put back.
    Mended { instance: InstanceId, what: String },
    /// Something else changes a namespace all the time.
    Fights { instance: InstanceId, what: String },
    /// A change can't be put back.
    NotMended { instance: InstanceId, why: String },
}

/// A hosts file that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptHosts {
    pub(crate) place: HostsPlace,
    pub(crate) handle: OpId,
    pub(crate) file: FileId,
}
